//! An example or a few for each command: the end of its `--help`, and the
//! section EXAMPLES of its man page. The container is called `box`.

use help::Table;

/// By the words of subcommands; those of the command itself under the empty word.
pub const EXAMPLES: &Table = &[
    (
        "",
        &[
            ("Write a config.json for ./rootfs", "podlet-oci spec"),
            ("Run it to its end", "podlet-oci run box"),
            (
                "With cgroups that systemd makes, and errors in a file too",
                "podlet-oci --systemd-cgroup --log /tmp/box.log run box",
            ),
        ],
    ),
    (
        "create",
        &[("From the bundle in ./box; its first process waits for `start`", "podlet-oci create --bundle ./box box")],
    ),
    ("start", &[("Have a created container run its program", "podlet-oci start box")]),
    ("state", &[("Its status, pid and bundle", "podlet-oci state box")]),
    (
        "kill",
        &[("Ask it to end", "podlet-oci kill box TERM"), ("End everything in it", "podlet-oci kill --all box KILL")],
    ),
    ("delete", &[("Even while it runs", "podlet-oci delete --force box")]),
    (
        "run",
        &[
            ("The bundle in this directory, to its end", "podlet-oci run box"),
            (
                "In the background, with its pid in a file",
                "podlet-oci run --detach --bundle ./box --pid-file /tmp/box.pid box",
            ),
        ],
    ),
    ("exec", &[("A shell on this terminal", "podlet-oci exec --tty box sh")]),
    ("ps", &[("With ps(1)'s own options", "podlet-oci ps box -o pid,args")]),
    ("list", &[("Only ids", "podlet-oci list --quiet")]),
    ("pause", &[("Stop all its processes where they are", "podlet-oci pause box")]),
    ("resume", &[("Let them go on", "podlet-oci resume box")]),
    (
        "update",
        &[(
            "Less memory, and half a processor",
            "podlet-oci update --memory 128m --cpu-quota 50000 --cpu-period 100000 box",
        )],
    ),
    ("events", &[("What it uses now, once", "podlet-oci events --stats box")]),
    ("spec", &[("A config.json for an ordinary user, in ./box", "podlet-oci spec --rootless --bundle ./box")]),
    ("features", &[("What this build can do", "podlet-oci features")]),
    ("checkpoint", &[("Is refused, with the reason", "podlet-oci checkpoint box")]),
    ("restore", &[("Is refused, with the reason", "podlet-oci restore box")]),
];
