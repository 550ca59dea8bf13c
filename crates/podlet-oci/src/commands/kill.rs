//! `podlet-oci kill`.

use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;
use nix::sys::signal::Signal;
use pod::oci::Runtime;

/// Send a signal to a container's process
#[derive(Args)]
pub struct Kill {
    /// To all processes of the container
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// A name such as TERM or SIGTERM, or a number
    #[arg(value_name = "SIGNAL", default_value = "SIGTERM")]
    signal: String,
}

impl Kill {
    pub fn run(&self, runtime: &Runtime) -> Result<u8> {
        let signal = parse(&self.signal)?;
        let instance = runtime.get(&self.id)?;
        match self.all {
            true => instance.kill_all(signal)?,
            false => instance.kill(signal)?,
        }
        Ok(0)
    }
}

fn parse(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        // The kernel knows 64; 0 asks whether the process is there.
        if (0..=64).contains(&number) {
            return Ok(number);
        }
    }
    let upper = text.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let real_time = |name: &str, from: i32, sign: i32| {
        let rest = full.strip_prefix(name)?;
        let sign_shown = if sign > 0 { '+' } else { '-' };
        let distance: i32 = if rest.is_empty() { 0 } else { rest.strip_prefix(sign_shown)?.parse().ok()? };
        Some(from + sign * distance).filter(|number| (34..=64).contains(number))
    };
    match Signal::from_str(&full) {
        Ok(signal) => Ok(signal as i32),
        Err(_) => match real_time("SIGRTMIN", 34, 1).or_else(|| real_time("SIGRTMAX", 64, -1)) {
            Some(number) => Ok(number),
            None => bail!("signal {text:?}: not a signal of signal(7)"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("0", 0)] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "65", "-1", "SIGNOPE", "RTMIN+99", "RTMIN-3", "RTMIN\u{e9}", "9x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
