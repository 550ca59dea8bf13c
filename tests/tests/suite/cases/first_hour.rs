//! What users of podman and docker try first: options do what they do there, or
//! podlet says why there is no such thing.

use std::fs;

use super::commands::detached;
use super::config;
use crate::bed::Bed;
use crate::sys;

crate::tests![
    what_there_is_not_is_explained_and_nothing_is_guessed,
    kill_takes_signals_as_kill_does,
    logs_begin_where_they_are_told,
    ps_names_what_is_asked_for,
    inspect_fills_templates,
    all_means_every_pod,
    environment_files_are_read_as_podman_reads_them,
    an_entrypoint_takes_the_words_as_its_arguments,
    the_host_name_has_its_short_option,
    help_ends_with_an_example,
    input_is_kept_whether_asked_for_or_not,
    the_examples_do_what_they_say,
];

fn what_there_is_not_is_explained_and_nothing_is_guessed(bed: &Bed) {
    bed.podlet("create web").ok();
    detached(bed, "a", "");
    for (line, words) in [
        ("pull alpine", &["no images", "--rootfs"][..]),
        ("build .", &["no images"]),
        ("images", &["no images"]),
        ("ls", &["podlet ps"]),
        ("sotp web", &["do you mean `podlet stop`?"]),
        ("frobnicate", &["see `podlet --help`"]),
        ("exec -it --detach-keys ctrl-x web/a sh", &["no option --detach-keys", "podlet run -dit"]),
        ("exec -dt web/a sh", &["--tty", "--detach"]),
        ("run -p 80:80 host true", &["--publish", "PODLET_NETWORK \"none\""]),
        ("run --restart always host true", &["--restart", "--detach"]),
        ("run --expose 80 host true", &["--expose", "-p HOST:POD"]),
        ("container create --pull always host true", &["`podlet container create` has no option --pull", "no images"]),
        ("create -v /a:/b web", &["`podlet create` has no option -v", "podlet run --pod POD"]),
        ("run --nmae a host true", &["do you mean --name?"]),
        ("logs --since yesterday web/a", &["--since", "yesterday", "10m"]),
        ("run -d --log-driver syslog host true", &["--log-driver", "syslog", "k8s-file"]),
        ("run --log-driver none host true", &["--log-driver", "--detach"]),
        ("run -d --log-opt max-size=1k host true", &["max_size", "1024", "16384"]),
        ("start -a web/a", &["no option -a", "podlet attach"]),
        ("stop --latest", &["--latest", "name it"]),
        ("ps --frobnicate", &["`podlet ps` has no option --frobnicate", "podlet ps --help"]),
    ] {
        let said = bed.podlet(line).fails(125, words);
        assert!(!said.err.contains("do you mean `podlet stop`") || line == "sotp web", "{line}: {}", said.err);
    }
    assert_eq!(bed.inspect("web/a")["state"], "running");
}

fn kill_takes_signals_as_kill_does(bed: &Bed) {
    bed.podlet("create web").ok();
    for (options, code) in [("-USR1", 51), ("-10", 51), ("-s USR1", 51), ("--signal=10", 51), ("-SIGUSR1", 51)] {
        detached(bed, "a", "trap USR1 51");
        bed.podlet(&format!("kill {options} web/a")).ok();
        assert_eq!(bed.podlet("wait web/a").ok(), format!("{code}\n"), "{options}");
        bed.podlet("rm web/a").ok();
    }
    detached(bed, "a", "");
    bed.podlet("kill web/a -9").ok();
    assert_eq!(bed.podlet("wait web/a").ok(), "137\n");
    bed.podlet("kill -99 web/a").fails(125, &["-9"]);
    // The payload's words are its own.
    assert_eq!(bed.podlet("run --rm --rootfs ROOT /probe echo kill -9").ok(), "kill -9\n");
}

fn logs_begin_where_they_are_told(bed: &Bed) {
    bed.podlet("create web").ok();
    detached(bed, "a", "lines 20000");
    let all = bed.podlet("logs web/a").ok();
    assert_eq!(all.lines().count(), 20_001);
    let last = |count: usize| all.lines().skip(20_001 - count).map(|line| format!("{line}\n")).collect::<String>();
    // Of more than a block, too.
    for count in [0, 1, 3, 15_000, 20_000, 20_001] {
        assert_eq!(bed.podlet(&format!("logs --tail {count} web/a")).ok(), last(count), "{count}");
    }
    for every in ["--tail 20002", "--tail all", "--tail -1", "-n all"] {
        assert_eq!(bed.podlet(&format!("logs {every} web/a")).ok(), all, "{every}");
    }
    bed.podlet("logs --tail x web/a").fails(125, &["--tail", "x"]);
    // What comes is told, wherever it begins.
    bed.podlet("exec -d web/a /probe echo more").ok();
    bed.await_log("web/a", "more");
    bed.podlet("kill web/a").ok();
    assert_eq!(bed.podlet("logs -f --tail 2 web/a").ok(), "up\nmore\n");
}

fn ps_names_what_is_asked_for(bed: &Bed) {
    bed.podlet("create web").ok();
    bed.podlet("create empty").ok();
    detached(bed, "app", "");
    detached(bed, "db", "");
    bed.podlet("run --pod web --name done --rootfs ROOT /probe exit 3").code(3);
    bed.podlet("run -d --name own --rootfs ROOT /probe block").ok();
    let names = |options: &str| {
        let mut names: Vec<_> = bed.podlet(&format!("ps -q {options}")).ok().lines().map(String::from).collect();
        names.sort();
        names.join(" ")
    };
    for (options, expected) in [
        ("", "empty own web/app web/db"),
        ("-a", "empty own web/app web/db web/done"),
        ("--filter name=d", "web/db"),
        ("-a --filter name=d", "web/db web/done"),
        ("--filter name=^web/a", "web/app"),
        ("--filter name=^own$", "own"),
        ("--filter pod=web", "web/app web/db"),
        ("--filter status=exited", "web/done"),
        ("--filter status=running --filter pod=web", "web/app web/db"),
        ("--filter exited=3", "web/done"),
        ("--filter exited=4", ""),
        ("--filter name=app --filter name=own", "own web/app"),
    ] {
        assert_eq!(names(options), expected, "{options}");
    }
    // What it prints is what the others take.
    for name in names("").split(' ') {
        bed.podlet(&format!("inspect {name}")).ok();
    }
    bed.podlet("ps --filter colour=a").fails(125, &["colour=a", "name, pod, label, status and exited"]);
    bed.podlet("ps --filter name=a*").fails(125, &["a*", "part of a name"]);
    bed.podlet("ps -q --format json").fails(125, &["--quiet", "--format"]);
    let long = "x".repeat(200);
    bed.podlet(&format!("run -d --pod web --name long --rootfs ROOT /probe echo {long} , block")).ok();
    assert!(!bed.podlet("ps").ok().contains(&long) && bed.podlet("ps --no-trunc").ok().contains(&long));
    let list = bed.podlet("ps --filter pod=web --filter name=db --format json").ok();
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!((list.as_array().map(Vec::len), &list[0]["containers"][0]["name"]), (Some(1), &"db".into()));
}

fn inspect_fills_templates(bed: &Bed) {
    bed.podlet("create web").ok();
    let pid = detached(bed, "a", "");
    let fill = |template: &str, target: &str| bed.podlet_args(&["inspect", "-f", template, target]);
    assert_eq!(fill("{{.State.Status}} {{.State.Running}}", "web/a").ok(), "running true\n");
    assert_eq!(fill("{{.State.Pid}}", "web/a").ok(), format!("{pid}\n"));
    assert_eq!(fill("{{.Name}} has {{.Pid}}, {{.State.ExitCode}}", "web/a").ok(), format!("a has {pid}, <no value>\n"));
    // A pod with one container answers for it.
    assert_eq!(fill("{{.Name}} {{.Pid}}", "web").ok(), format!("web {pid}\n"));
    bed.podlet("run -d --name own --rootfs ROOT /probe block").ok();
    assert_eq!(fill("{{.State.Status}}", "own").ok(), "running\n");
    bed.podlet("kill web/a").ok();
    bed.podlet("wait web/a").ok();
    assert_eq!(
        fill("{{.State.Status}} {{.State.ExitCode}} {{.Signal}} {{json .Pid}}", "web/a").ok(),
        "exited 137 9 null\n"
    );
    fill("{{.Nothing}}", "web/a").fails(125, &[".Nothing", ".exit_code"]);
    fill("{{range .Command}}{{.}}{{end}}", "web/a").fails(125, &["range", "jq"]);
    fill("{{.Command}}", "web/a").fails(125, &["json .Command"]);
    fill("{{.Name", "web/a").fails(125, &["}}"]);
}

fn all_means_every_pod(bed: &Bed) {
    for pod in ["web", "two"] {
        bed.podlet(&format!("create {pod}")).ok();
        bed.podlet(&format!("run -d --pod {pod} --name a --rootfs ROOT /probe trap TERM 4 , echo up , block")).ok();
        bed.await_log(&format!("{pod}/a"), "up");
    }
    bed.podlet("create empty").ok();
    for line in ["stop", "rm", "kill", "restart"] {
        bed.podlet(line).fails(125, &["TARGETS"]);
        bed.podlet(&format!("{line} -a web")).fails(125, &["--all"]);
    }
    // Those that run are told and stay; the others go.
    bed.podlet("rm -a").fails(125, &["web/a is running", "two/a is running"]);
    assert_eq!(bed.podlet("ps -q").ok().lines().count(), 2);
    let before = bed.pid_of("web/a");
    bed.podlet("restart -a").ok();
    bed.await_log("web/a", "up");
    assert_ne!(bed.pid_of("web/a"), before);
    bed.await_log("two/a", "up");
    bed.podlet("kill -a -s 0").fails(125, &["signal"]);
    bed.until("traps", || {
        let logs = ["web/a", "two/a"].map(|name| bed.podlet(&format!("logs {name}")).ok());
        logs.iter().all(|log| log.matches("up").count() == 2)
    });
    bed.podlet("stop -a").ok();
    for pod in ["web", "two"] {
        assert_eq!(bed.inspect(pod)["containers"][0]["exit_code"], 4);
        assert_eq!(bed.inspect(pod)["state"], "exited");
    }
    bed.podlet("start web two").ok();
    bed.podlet("kill --all").ok();
    assert_eq!(bed.podlet("wait web/a two/a").ok(), "137\n137\n");
    bed.podlet("start web").ok();
    bed.podlet("rm -af").ok();
    bed.podlet("rm -a").ok();
    bed.is_clean();
}

fn environment_files_are_read_as_podman_reads_them(bed: &Bed) {
    let file = bed.dir.join("env");
    fs::write(&file, "# words\n\n  A=1\nB=two words \nC=\"kept\"\nHERE\nNOT_HERE\nD=first\nE=a=b\n").expect("a file");
    bed.podlet("create web").ok();
    detached(bed, "a", "");
    for line in ["run --rm --rootfs ROOT OPTIONS /probe env", "exec OPTIONS web/a /probe env"] {
        let mut command = bed.command(&bed.expand(&line.replace("OPTIONS", "--env-file DIR/env -e D=second")));
        command.env("HERE", "of podlet").env_remove("NOT_HERE");
        let said = bed.finish(command).ok();
        let lines: Vec<_> = said.lines().collect();
        for wanted in ["A=1", "B=two words ", "C=\"kept\"", "HERE=of podlet", "D=second", "E=a=b"] {
            assert!(lines.contains(&wanted), "{wanted:?}: {lines:?}");
        }
        assert!(!said.contains("NOT_HERE") && !said.contains("words\n#"), "{said}");
    }
    fs::write(&file, "=x\n").expect("a file");
    bed.podlet("run --rm --env-file DIR/env --rootfs ROOT /probe env").fails(125, &["/env", "line 1"]);
    fs::write(&file, "export A=1\n").expect("a file");
    bed.podlet("run --rm --env-file DIR/env --rootfs ROOT /probe env").fails(125, &["export A", "line 1"]);
    for path in ["/dev/zero", "/", "/none"] {
        bed.podlet(&format!("run --rm --env-file {path} --rootfs ROOT /probe env")).fails(125, &["--env-file", path]);
    }
    // A pipe that the shell makes, as by <(...).
    let pipe = bed.dir.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| fs::write(&pipe, "P=piped\n").expect("a reader"));
        assert!(bed.podlet("run --rm --env-file DIR/pipe --rootfs ROOT /probe env").ok().contains("P=piped\n"));
    });
}

fn an_entrypoint_takes_the_words_as_its_arguments(bed: &Bed) {
    let run = |entrypoint: &str, words: &str| {
        let rootfs = bed.rootfs().display().to_string();
        let mut args = vec!["run", "--rm", "--entrypoint", entrypoint, "--rootfs", &rootfs];
        args.extend(words.split_whitespace());
        bed.podlet_args(&args)
    };
    assert_eq!(run("/probe", "echo one").ok(), "one\n");
    assert_eq!(run("[\"/probe\", \"echo\", \"one two\"]", "three").ok(), "one two three\n");
    assert_eq!(run("", "/probe echo one").ok(), "one\n");
    run("[\"/probe\", 3]", "").fails(125, &["--entrypoint", "JSON"]);
    // What a bundle would run by itself does not count any more.
    config::write(bed, &config::config(&["/probe", "echo", "of", "the", "bundle"]));
    let bundle = bed.dir.display().to_string();
    assert_eq!(bed.podlet_args(&["run", "--rm", "--bundle", &bundle]).ok(), "of the bundle\n");
    let words = ["run", "--rm", "--entrypoint", "/probe", "--bundle", &bundle, "echo", "mine"];
    assert_eq!(bed.podlet_args(&words).ok(), "mine\n");
    bed.podlet_args(&["run", "--rm", "--entrypoint", "", "--bundle", &bundle]).fails(125, &["args"]);
    bed.is_clean();
}

fn the_host_name_has_its_short_option(bed: &Bed) {
    assert_eq!(bed.podlet("run --rm -h box --rootfs ROOT /probe hostname").ok(), "box\n");
    bed.podlet("create -h box web").ok();
    assert_eq!(bed.podlet("run --rm --pod web --rootfs ROOT /probe hostname").ok(), "box\n");
    for line in ["run --help", "create --help", "plan --help", "ps -h", "-h"] {
        assert!(bed.podlet(line).ok().contains("Usage:"), "{line}");
    }
    bed.podlet("run -h").fails(125, &["--hostname", "--help"]);
}

fn help_ends_with_an_example(bed: &Bed) {
    let ends_with = |help: String, example: &str| {
        let (_, examples) = help.split_once("\n\nExamples:\n  # ").unwrap_or_else(|| panic!("no example: {help}"));
        assert!(examples.ends_with(&format!("\n  {example}\n")), "{help}");
    };
    ends_with(bed.podlet("--help").ok(), "podlet ps -a");
    for line in ["wait --help", "wait -h", "help wait"] {
        ends_with(bed.podlet(line).ok(), "podlet wait web/db web/app");
    }
    for line in ["port ls --help", "port help ls", "help port ls"] {
        ends_with(bed.podlet(line).ok(), "podlet port ls web");
    }
    ends_with(bed.oci("exec --help").ok(), "podlet-oci exec --tty box sh");
}

fn input_is_kept_whether_asked_for_or_not(bed: &Bed) {
    bed.podlet("create web").ok();
    detached(bed, "a", "");
    for line in ["run --rm -i --rootfs ROOT /probe stdin", "exec -i web/a /probe stdin", "exec web/a /probe stdin"] {
        let mut command = bed.command(&bed.expand(line));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut { writer }, b"given").expect("a pipe");
        command.stdin(reader);
        assert_eq!(bed.finish(command).ok(), "stdin \"given\"\n", "{line}");
    }
    bed.podlet("run -d -i --rootfs ROOT /probe stdin").fails(125, &["--interactive", "--detach"]);
    bed.podlet("exec -d -i web/a /probe stdin").fails(125, &["--interactive", "--detach"]);
}

/// Programs that embed the library, as crates/pod/examples and
/// crates/pod-tokio/examples have them.
fn the_examples_do_what_they_say(bed: &Bed) {
    for (name, said) in [
        ("embed", "killer ended with Some(3)\nsleeper was killed by signal Some(9)\n"),
        (
            "threads",
            "worker-0: the last run ended with Some(0)\nworker-1: the last run ended with Some(0)\n\
             worker-2: the last run ended with Some(0)\n",
        ),
        (
            "supervisor",
            "supervised/job failed with 2: started again\nsupervised/job failed with 1: started again\n\
             it has succeeded\n",
        ),
        (
            "tasks",
            "brief: success is true\nwrong: ended with Some(4)\nserver: ready\nserver: told to end, it said Some(3)\n\
             the pod has ended\n",
        ),
    ] {
        let mut command = bed.embed(&format!("example {name}"));
        sys::ignore_children(&mut command);
        let out = bed.finish(command).ok();
        // The threads of one speak in any order.
        let out: String =
            out.lines().filter(|line| !line.ends_with("in run 3")).map(|line| format!("{line}\n")).collect();
        assert_eq!(out, said, "{name}");
        bed.is_clean();
    }
}
