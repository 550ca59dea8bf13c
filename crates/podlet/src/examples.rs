//! An example or a few for each command: the end of its `--help`, and the
//! section EXAMPLES of its man page. Two pods go through them: `web`, with the
//! containers `db` and `app`, and `box`.

use help::Table;

/// By the words of subcommands; those of the command itself under the empty word.
pub const EXAMPLES: &Table = &[
    (
        "",
        &[
            (
                "A container in a pod of its own, from this machine's own files, removed when it has ended",
                "podlet run --rm host echo hello",
            ),
            ("A pod with a port of this machine", "podlet create -p 8080:80 web"),
            ("A container in it, in the background", "podlet run -d --pod web --name db host sleep 1000"),
            ("What there is, with what has ended", "podlet ps -a"),
        ],
    ),
    (
        "run",
        &[
            ("A shell on a terminal, removed when it ends", "podlet run -it --rm host sh"),
            ("In the background, in a pod that is there", "podlet run -d --pod web --name db host sleep 1000"),
            (
                "From a directory with programs in it, with a port, a volume and limits",
                "podlet run -d --name box -p 8080:80 -v /srv/box:/www:ro --memory 64m --rootfs ./box httpd -f -h /www",
            ),
        ],
    ),
    (
        "create",
        &[
            (
                "A pod with an address of its own, and a port of this machine that leads to it",
                "podlet create -p 8080:80 web",
            ),
            (
                "One in no network, with limits for all its containers together",
                "podlet create --network none --memory 1g --cpus 1.5 box",
            ),
        ],
    ),
    (
        "container",
        &[("Make a container, to be started later", "podlet container create --pod web --name app host sleep 1000")],
    ),
    (
        "container create",
        &[("Make a container, to be started later", "podlet container create --pod web --name app host sleep 1000")],
    ),
    ("container start", &[("Start it", "podlet container start web/app")]),
    (
        "ps",
        &[
            ("Also what has ended", "podlet ps -a"),
            (
                "The names of what has a label and runs",
                "podlet ps -q --filter label=tier=front --filter status=running",
            ),
        ],
    ),
    (
        "inspect",
        &[
            ("All of a pod, as JSON", "podlet inspect web"),
            ("One value of a container", "podlet inspect -f '{{.Pid}}' web/db"),
        ],
    ),
    (
        "logs",
        &[
            ("The last 20 lines, and what follows", "podlet logs -f -n 20 web/app"),
            ("All of a pod since ten minutes ago, with times", "podlet logs -t --since 10m web"),
        ],
    ),
    (
        "attach",
        &[
            (
                "The shell that `podlet run -dit --name sh host sh` has started; Ctrl-P, Ctrl-Q leave it",
                "podlet attach sh",
            ),
            ("See what it writes, and type nothing", "podlet attach --no-stdin web/app"),
        ],
    ),
    ("top", &[("The processes of a pod", "podlet top web")]),
    ("stats", &[("What a pod uses now, once", "podlet stats --no-stream web")]),
    ("cp", &[("A file out of a container", "podlet cp web/app:/etc/hosts ./hosts")]),
    ("prune", &[("Remove what has ended", "podlet prune --force")]),
    ("wait", &[("Until both have ended", "podlet wait web/db web/app")]),
    (
        "events",
        &[
            ("What happens to two pods, also ones that are not there yet", "podlet events web box"),
            (
                "For a script: how containers with a label end",
                "podlet events --format json --filter event=died --filter label=tier=front",
            ),
        ],
    ),
    (
        "exec",
        &[
            ("A shell beside what runs", "podlet exec -it web/app sh"),
            ("A check that may take 5 seconds", "podlet exec --timeout 5 web/db sh -c 'test -e /dev/shm/ready'"),
        ],
    ),
    ("healthcheck", &[("Whether it does well now, as its checks have it", "podlet healthcheck run web/db")]),
    ("healthcheck run", &[("Whether it does well now, as its checks have it", "podlet healthcheck run web/db")]),
    ("kill", &[("SIGHUP, with which many programs read their settings again", "podlet kill -s HUP web/db")]),
    (
        "stop",
        &[
            ("A pod, with 30 seconds for its containers to end", "podlet stop -t 30 web"),
            ("A container; the pod stays", "podlet stop web/db"),
        ],
    ),
    ("start", &[("A container that has ended", "podlet start web/db")]),
    ("restart", &[("A container, killed if it has not ended after 3 seconds", "podlet restart -t 3 web/db")]),
    ("pause", &[("All of a pod as one", "podlet pause web")]),
    ("unpause", &[("All of a pod", "podlet unpause web")]),
    (
        "update",
        &[
            ("More memory for a container that runs", "podlet update --memory 512m web/db"),
            ("Half a processor for a pod, all its containers together", "podlet update --cpus 0.5 web"),
        ],
    ),
    (
        "rm",
        &[("A container that has ended", "podlet rm web/db"), ("A pod, with all that runs in it", "podlet rm -f web")],
    ),
    ("network", &[("A network, for pods that are made with --network back", "podlet network create back")]),
    (
        "network create",
        &[
            ("A network with a subnet of choice", "podlet network create --subnet 10.90.1.0/24 back"),
            ("One that nothing leads out of", "podlet network create --internal vault"),
            (
                "Flat over two machines, by a tunnel: here 10.90.1.0/24, there 10.90.2.0/24",
                "podlet network create --subnet 10.90.1.0/24 --peer 192.0.2.7=10.90.2.0/24 --vxlan 42 flat",
            ),
        ],
    ),
    ("network ls", &[("For a script", "podlet network ls --format json")]),
    ("network inspect", &[("Its settings, and who is in it", "podlet network inspect back")]),
    ("network rm", &[("Two networks", "podlet network rm back vault")]),
    ("network prune", &[("All that no pod is in", "podlet network prune")]),
    ("network reload", &[("After `nft flush ruleset`", "podlet network reload")]),
    ("network check", &[("Why does nobody reach it?", "podlet network check web")]),
    ("port", &[("One more port of this machine that leads to a pod", "podlet port add web 8443:443")]),
    ("port add", &[("Port 8443, of one address of this machine alone", "podlet port add web 127.0.0.1:8443:443")]),
    ("port rm", &[("It leads there no longer", "podlet port rm web 127.0.0.1:8443:443")]),
    ("port ls", &[("Those of a pod", "podlet port ls web")]),
    (
        "plan",
        &[("Every system call for a container that drops its rights", "podlet plan --cap-drop ALL -u 1000 host true")],
    ),
];
