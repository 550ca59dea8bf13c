//! Many pods with ports in one network: is the last one as cheap as the first? What
//! grows in the kernel grows for a prototype, too, which is asked in turns with podlet.

use std::time::{Duration, Instant};

use anyhow::Result;
use net::{AttachOptions, NetworkOptions, NetworkRequest, Networks};
use pod::{Pod, PodOptions, Store};

use super::prototype::Prototype;
use crate::measure::{median, milliseconds, timed};
use crate::report::{NONE, aim, line, ms, section, times};

const PODS: usize = 300;
/// How many at each end are compared.
const ENDS: usize = 10;
/// A machine that is too busy for all of them is measured with fewer.
const LONG: Duration = Duration::from_secs(40);
/// podlet's growth beside the prototype's.
const AIM: f64 = 1.1;
const NETWORK: &str = "crowd";

pub fn measure(store: &Store, networks: &Networks) -> Result<()> {
    let mut options = NetworkOptions::new(NETWORK);
    options.subnets = vec![net::config::parse_subnet("10.94.0.0/16")?, net::config::parse_subnet("fd94::/64")?];
    let _ = networks.create_network(&options)?;
    let mut prototype = Prototype::new()?;
    let (mut pods, mut theirs) = (Vec::new(), Vec::new());
    let (mut made, mut attached) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while pods.len() < PODS && (began.elapsed() < LONG || pods.len() < 2 * ENDS) {
        theirs.push(milliseconds(timed(|| prototype.add())?.0));
        let number = pods.len();
        let (taken, pod) = timed(|| Ok(Pod::create(store, PodOptions::new(format!("crowd-{number}")))?))?;
        made.push(milliseconds(taken));
        attached.push(milliseconds(timed(|| attach(networks, &pod, number))?.0));
        pods.push(pod);
    }
    section(&format!("{} pods with a port each in one network", pods.len()), ["first 10", "last 10", "growth"]);
    let floor = growth("prototype: namespace, links, addresses, element", &theirs);
    growth("podlet: Pod::create", &made);
    growth("podlet: Networks::attach", &attached);
    let both: Vec<_> = made.iter().zip(&attached).map(|(made, attached)| made + attached).collect();
    let own = growth("podlet: both", &both);
    let relative = own / floor;
    let limit = aim("at most 1.1 x the prototype's", relative <= AIM);
    line("podlet's growth beside the prototype's", ["", "", &times(relative)], &limit);
    if pods.len() < PODS {
        line(&format!("(not {PODS}: the machine is busy)"), NONE, "");
    }
    let count = pods.len();
    let (taken, ()) = timed(|| pods.into_iter().try_for_each(|pod| Ok(pod.remove()?)))?;
    line("their removal, each", [&ms(milliseconds(taken) / count as f64), "", ""], "");
    Ok(networks.unmake(&networks.changing()?, NETWORK)?)
}

fn attach(networks: &Networks, pod: &Pod, number: usize) -> Result<()> {
    let mut options = AttachOptions::new([NetworkRequest::new(NETWORK)]);
    options.ports = net::ports::parse(&format!("{}:80", 20_000 + number))?;
    let _ = networks.attach(pod, &options)?;
    Ok(())
}

fn growth(name: &str, taken: &[f64]) -> f64 {
    let (first, last) = (median(&taken[..ENDS]), median(&taken[taken.len() - ENDS..]));
    line(name, [&ms(first), &ms(last), &times(last / first)], "");
    last / first
}
