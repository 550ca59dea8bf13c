use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use tempfile::TempDir;

use super::*;

/// A directory with a network's record and leases.
struct Network {
    dir: TempDir,
    config: NetworkConfig,
}

impl Network {
    fn new(subnets: &[&str]) -> Network {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("leases")).expect("made");
        fs::write(dir.path().join("network.json"), "").expect("written");
        let subnets: Vec<IpNet> = subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect();
        Network { dir, config: NetworkConfig::new("web", "podlet0", subnets) }
    }

    fn leases(&self) -> Leases {
        leases_at(self.dir.path(), &self.config)
    }

    fn held(&self) -> Vec<(String, String)> {
        let holders = self.leases().holders().expect("read");
        holders.into_iter().map(|lease| (lease.address.to_string(), lease.holder.pod)).collect()
    }
}

fn leases_at(dir: &Path, config: &NetworkConfig) -> Leases {
    Leases::new(dir.join("leases"), dir.join("network.json"), config)
}

fn holder(pod: &str) -> Holder {
    Holder { pod: pod.into(), id: format!("id-of-{pod}") }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn take(leases: &Leases, wanted: &[&str], pod: &str) -> Vec<String> {
    let wanted: Vec<_> = wanted.iter().map(|wanted| ip(wanted)).collect();
    let taken = leases.take(&wanted, &holder(pod)).unwrap_or_else(|error| panic!("{pod}: {error}"));
    taken.iter().map(ToString::to_string).collect()
}

fn refused(leases: &Leases, wanted: &[&str], pod: &str) -> String {
    let wanted: Vec<_> = wanted.iter().map(|wanted| ip(wanted)).collect();
    leases.take(&wanted, &holder(pod)).expect_err("refused").to_string()
}

/// Files in the leases' directory that are no leases and not known.
fn strangers(network: &Network) -> Vec<String> {
    let names = fs::read_dir(network.dir.path().join("leases")).expect("there");
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names.filter(|name| name.parse::<IpAddr>().is_err() && ![LOCK, ".next4", ".next6"].contains(&&**name)).collect()
}

#[test]
fn addresses_are_handed_out_in_turn_and_look_alike() {
    let network = Network::new(&["10.89.0.0/24", "fd00::/64"]);
    let leases = network.leases();
    assert_eq!(take(&leases, &[], "a"), ["10.89.0.2", "fd00::2"]);
    assert_eq!(take(&leases, &[], "b"), ["10.89.0.3", "fd00::3"]);
    assert_eq!(leases.give_back("id-of-a").expect("given back"), [ip("10.89.0.2"), ip("fd00::2")]);
    assert_eq!(take(&leases, &[], "c"), ["10.89.0.4", "fd00::4"], "not at once what was given back");
    // A number is not in the way of another family.
    assert_eq!(take(&leases, &["fd00::5"], "d"), ["10.89.0.5", "fd00::5"]);
    let mixed = take(&leases, &["10.89.0.77"], "e");
    assert_eq!(mixed, ["10.89.0.77", "fd00::4d"]);
    // Where the number means nothing in the other subnet, it is whose turn it is.
    assert_eq!(take(&leases, &["fd00::1:0"], "f")[1], "fd00::1:0");
    assert!(strangers(&network).is_empty());
}

#[test]
fn the_row_begins_anew_after_its_end() {
    let network = Network::new(&["10.0.0.0/29"]);
    let leases = network.leases();
    for last in (2..=6).chain(2..=6) {
        assert_eq!(take(&leases, &[], "a"), [format!("10.0.0.{last}")]);
        leases.give_back_these(&[ip(&format!("10.0.0.{last}"))], "id-of-a").expect("given back");
    }
    // Whatever stands where the turn does, it goes on.
    for text in ["nonsense", "", "99999999999999999999999999999999999999999999999999"] {
        fs::write(network.dir.path().join("leases/.next4"), text).expect("written");
        leases.give_back_these(&[ip(&take(&leases, &[], "a")[0])], "id-of-a").expect("given back");
    }
}

#[test]
fn what_is_wanted_is_had_or_refused_by_name() {
    let network = Network::new(&["10.89.0.0/24", "fd00::/64"]);
    let leases = network.leases();
    assert_eq!(take(&leases, &["10.89.0.9", "fd00::99"], "a"), ["10.89.0.9", "fd00::99"]);
    assert_eq!(take(&leases, &["10.89.0.9", "fd00::99"], "a"), ["10.89.0.9", "fd00::99"], "it has them already");
    let before = network.held();
    for (wanted, expected) in [
        (&["10.89.0.9"][..], "ip \"10.89.0.9\": pod a has it: give another address of network web, or none"),
        (&["fd00::99"], "ip6 \"fd00::99\": pod a has it"),
        (&["10.90.0.9"], "ip \"10.90.0.9\": not in network web (10.89.0.0/24, fd00::/64)"),
        (&["10.89.0.1"], "the gateway of 10.89.0.0/24: give another, such as 10.89.0.2"),
        (&["10.89.0.0"], "the subnet's own address of"),
        (&["10.89.0.255"], "the subnet's broadcast address of"),
        (&["fd00::"], "the subnet's own address of"),
        (&["fd00::1"], "the gateway of"),
        (&["10.89.0.5", "10.89.0.6"], "10.89.0.5 is wanted, too"),
        // The first is free, and free again when the second is not.
        (&["10.89.0.10", "fd00::99"], "pod a has it"),
    ] {
        let error = refused(&leases, wanted, "b");
        assert!(error.contains(expected), "{error}");
        assert_eq!(network.held(), before);
    }
    assert!(strangers(&network).is_empty());
}

#[test]
fn the_last_free_address_is_found_and_then_it_is_said_that_it_is_full() {
    let network = Network::new(&["10.0.0.0/24", "fd00::/120"]);
    let leases = network.leases();
    let all: BTreeSet<_> = (0..253).map(|pod| take(&leases, &[], &format!("pod{pod}"))[0].clone()).collect();
    assert_eq!(all.len(), 253);
    let error = refused(&leases, &[], "late");
    assert!(error.starts_with("network web is full: pods have all 253 addresses of 10.0.0.0/24; remove"), "{error}");
    for last in [254, 2, 100, 99] {
        let pod = network.leases().holder(ip(&format!("10.0.0.{last}"))).expect("read").expect("held");
        leases.give_back(&pod.id).expect("given back");
        assert_eq!(take(&leases, &[], &pod.pod)[0], format!("10.0.0.{last}"));
    }
    // IPv6 has one more, which nobody has while there is none of IPv4.
    assert_eq!(network.held().len(), 2 * 253);
}

#[test]
fn no_lease_is_read_to_take_one() {
    let network = Network::new(&["10.0.0.0/24"]);
    fs::write(network.dir.path().join("leases/10.0.0.2"), "garbage").expect("written");
    assert_eq!(take(&network.leases(), &[], "a"), ["10.0.0.3"]);
    let error = network.leases().holders().expect_err("corrupt").to_string();
    assert!(error.contains("leases/10.0.0.2: "), "{error}");
}

#[test]
fn only_the_holder_gives_back() {
    let network = Network::new(&["10.0.0.0/24"]);
    let leases = network.leases();
    take(&leases, &[], "a");
    leases.give_back_these(&[ip("10.0.0.2"), ip("10.0.0.3")], "id-of-b").expect("nothing of b's");
    assert!(leases.give_back("id-of-b").expect("nothing").is_empty());
    assert_eq!(network.held(), [("10.0.0.2".into(), "a".into())]);
    leases.give_back("id-of-a").expect("given back");
    leases.give_back("id-of-a").expect("again is as good");
    assert!(network.held().is_empty());
}

#[test]
fn other_files_are_left_alone() {
    let network = Network::new(&["10.0.0.0/24"]);
    fs::write(network.dir.path().join("leases/README"), "hello").expect("written");
    take(&network.leases(), &[], "a");
    assert_eq!(network.held().len(), 1);
    network.leases().reclaim(|_| false).expect("reclaimed");
    assert_eq!(strangers(&network), ["README"]);
}

#[test]
fn nothing_is_taken_of_a_network_that_is_removed() {
    let network = Network::new(&["10.0.0.0/24"]);
    let leases = network.leases();
    take(&leases, &[], "b");
    take(&leases, &[], "a");
    let error = leases.remove().expect_err("used").to_string();
    assert_eq!(error, "network web is used by pods a, b: remove them first");
    leases.give_back("id-of-b").expect("given back");
    let error = leases.remove().expect_err("used").to_string();
    assert_eq!(error, "network web is used by pod a: remove them first");
    leases.give_back("id-of-a").expect("given back");
    leases.remove().expect("unused");
    assert_eq!(fs::read_dir(network.dir.path()).expect("there").count(), 0);
    assert_eq!(leases.take(&[], &holder("a")), Err(Error::NotFound("network web".into())));
    // Also if only the record is gone yet.
    fs::create_dir(network.dir.path().join("leases")).expect("made");
    assert_eq!(leases.take(&[], &holder("a")), Err(Error::NotFound("network web".into())));
}

#[test]
fn threads_that_ask_at_once_get_an_address_each() {
    let network = Network::new(&["10.0.0.0/25", "fd00::/64"]);
    let barrier = Barrier::new(64);
    let taken = std::thread::scope(|scope| {
        let take = |pod: usize| {
            let (leases, barrier) = (network.leases(), &barrier);
            scope.spawn(move || {
                barrier.wait();
                let taken = take(&leases, &[], &format!("pod{pod}"));
                // Half of them are gone again at once.
                if pod.is_multiple_of(2) {
                    leases.give_back(&format!("id-of-pod{pod}")).expect("given back");
                }
                taken
            })
        };
        let threads: Vec<_> = (0..64).map(take).collect();
        threads.into_iter().map(|thread| thread.join().expect("joined")).collect::<Vec<_>>()
    });
    assert_eq!(taken.iter().flatten().collect::<BTreeSet<_>>().len(), 2 * 64, "no two have the same");
    assert_eq!(network.held().len(), 2 * 32);
    assert!(strangers(&network).is_empty());
}

#[test]
fn no_two_have_the_same_turn() {
    let network = Network::new(&["10.0.0.0/16"]);
    let leases = network.leases();
    let turns = || (0..100).map(|_| leases.next_turn(&leases.ranges[0]).expect("a turn")).collect::<Vec<_>>();
    let all: BTreeSet<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(turns)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("joined")).collect()
    });
    assert_eq!(all, (0..800).collect());
}

#[test]
fn one_address_is_had_by_one_of_many_who_want_it() {
    let network = Network::new(&["10.0.0.0/24"]);
    let barrier = Barrier::new(16);
    let had = std::thread::scope(|scope| {
        let take = |pod: usize| {
            let (leases, barrier) = (network.leases(), &barrier);
            scope.spawn(move || {
                barrier.wait();
                leases.take(&[ip("10.0.0.9")], &holder(&format!("pod{pod}"))).is_ok()
            })
        };
        let threads: Vec<_> = (0..16).map(take).collect();
        threads.into_iter().map(|thread| thread.join().expect("joined")).filter(|had| *had).count()
    });
    assert_eq!(had, 1);
}

/// Says to the test's other processes where the network is.
const DIR: &str = "PODLET_NET_TEST_LEASES";

/// No test, but what the other processes do: take an address, tell it, and keep it
/// until they are killed.
#[test]
fn other_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let config = NetworkConfig::new("web", "podlet0", ["10.0.0.0/24".parse::<IpNet>().expect("a subnet")]);
    let pod = format!("{}", std::process::id());
    println!("\ntaken {}", take(&leases_at(Path::new(&dir), &config), &[], &pod)[0]);
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn start_other(network: &Network) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "lease::tests::other_process", "--nocapture"]).env(DIR, network.dir.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started")
}

fn taken_by(other: &mut Child) -> String {
    let lines = BufReader::new(other.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
    let mut taken = lines.filter_map(|line| line.strip_prefix("taken ").map(str::to_owned));
    taken.next().expect("it has taken one")
}

#[test]
fn processes_get_an_address_each_and_those_of_killed_ones_are_taken_back() {
    let network = Network::new(&["10.0.0.0/24"]);
    let mut others: Vec<_> = (0..64).map(|_| start_other(&network)).collect();
    let taken: BTreeSet<_> = others.iter_mut().map(taken_by).collect();
    assert_eq!(taken.len(), 64, "no two have the same");
    let kept = others[0].id().to_string();
    for other in &mut others[1..] {
        other.kill().expect("killed");
        other.wait().expect("waited for");
    }
    // What one leaves who is killed before its lease has a name.
    fs::write(network.dir.path().join("leases/.newXYZ"), "half").expect("written");
    let gone = network.leases().reclaim(|holder| Path::new("/proc").join(&holder.pod).exists()).expect("reclaimed");
    assert_eq!(gone.len(), 63);
    let held: Vec<_> = network.held().into_iter().map(|(_, pod)| pod).collect();
    assert_eq!(held, [kept]);
    // A program that another test is starting has the lock until execve.
    while !strangers(&network).is_empty() {
        assert!(network.leases().reclaim(|_| true).expect("reclaimed").is_empty());
    }
    others[0].kill().expect("killed");
    others[0].wait().expect("waited for");
}
