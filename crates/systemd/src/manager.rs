//! What is asked of systemd's manager, and how its jobs end.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zbus::wire::{ObjectPath, OwnedObjectPath};
use zbus::{OwnedVariant, Variant};

use crate::bus::{Address, Bus, PATIENCE};
use crate::message::{Message, Target};
use crate::{Error, Property, Result, check_unit};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const SCOPE: &str = "org.freedesktop.systemd1.Scope";

/// A unit that has ended is there until systemd has collected it, which comes
/// without a word.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whose manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The machine's, for root.
    System,
    /// The user's own (`systemd --user`).
    User,
}

/// A connection to a manager.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
}

impl Manager {
    /// Connects: to the socket on which systemd itself listens, or else to the
    /// message bus.
    ///
    /// # Errors
    /// [`Error::Missing`], with the cure, if there is no such manager.
    pub fn connect(whose: Whose) -> Result<Manager> {
        // sd_booted(3).
        if !Path::new("/run/systemd/system").is_dir() {
            let cure = "this machine was not booted by systemd (it has no /run/systemd/system)";
            return Err(Error::Missing(cure.into()));
        }
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let addresses = match whose {
            Whose::System => of_system(var("DBUS_SYSTEM_BUS_ADDRESS")),
            Whose::User => of_user(var("XDG_RUNTIME_DIR"), var("DBUS_SESSION_BUS_ADDRESS")),
        };
        let mut failures = Vec::new();
        for address in &addresses {
            match Bus::connect(address).and_then(Manager::listening) {
                Ok(manager) => return Ok(manager),
                Err(error) => failures.push(error.to_string()),
            }
        }
        let cure = match whose {
            Whose::System => "systemd's system manager cannot be reached, which is for root of the machine",
            Whose::User => {
                "the user's systemd cannot be reached; log in, or as root do `loginctl enable-linger USER`, and have \
                 XDG_RUNTIME_DIR=/run/user/UID in the environment"
            }
        };
        let failures = if failures.is_empty() { String::new() } else { format!(" ({})", failures.join("; ")) };
        Err(Error::Missing(format!("{cure}{failures}")))
    }

    /// Signals come: systemd sends them to everybody at its own socket, and on a
    /// bus to who asks for them.
    fn listening(mut bus: Bus) -> Result<Manager> {
        if !bus.direct {
            let rule = format!("type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'");
            let add_match = Target {
                destination: "org.freedesktop.DBus",
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                method: "AddMatch",
            };
            bus.call(add_match, &(rule,))?;
            bus.call(of_manager("Subscribe"), &())?;
        }
        Ok(Manager { bus })
    }

    /// The process that listens for it, or for the bus between, as our pid namespace
    /// numbers it; `None` for one that has no number in it.
    pub fn listener(&self) -> Option<u32> {
        self.bus.peer()
    }

    /// The manager's own cgroup, below which its slices are: a path from the root
    /// of the hierarchy, without a slash at its beginning.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Io`], [`Error::Deadline`].
    pub fn control_group(&mut self) -> Result<PathBuf> {
        let path = self.property(PATH, MANAGER, "ControlGroup")?;
        Ok(path.trim_matches('/').into())
    }

    /// Makes a transient scope (org.freedesktop.systemd1(5), `StartTransientUnit`),
    /// and waits until it is there. A process must be among its properties (`PIDs`).
    /// Optional [properties](Property::optional) that systemd does not know are left
    /// out.
    ///
    /// # Errors
    /// [`Error::Refused`], such as [`is_unit_exists`](Error::is_unit_exists);
    /// [`Error::Job`], [`Error::Invalid`].
    pub fn start_scope(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        check_unit(unit)?;
        let end = Instant::now() + PATIENCE;
        let job = loop {
            let started = self.with_known(properties, |manager, properties| {
                let aux: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
                manager.job("StartTransientUnit", &(unit, "fail", variants(properties), aux))
            });
            match started {
                Err(error) if error.is_unit_exists() => {
                    self.reset_failed(unit)?;
                    if !self.is_ending(unit)? || Instant::now() > end {
                        return Err(error);
                    }
                    std::thread::sleep(LOOK_AGAIN);
                }
                started => break started?,
            }
        };
        self.wait_for(unit, &job).inspect_err(|_| {
            // What went wrong first is what counts.
            self.reset_failed(unit).ok();
        })
    }

    /// Stops a unit, and waits until that is done; one that is not there has been
    /// stopped. What runs in it gets SIGTERM, and as long as `TimeoutStopUSec` says.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Job`], [`Error::Deadline`].
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        let stopped = match self.job("StopUnit", &(unit, "replace")) {
            Err(error) if error.is_no_such_unit() => Ok(()),
            job => job.and_then(|job| self.wait_for(unit, &job)),
        };
        self.reset_failed(unit)?;
        stopped
    }

    /// Has systemd forget that a unit failed, for which it keeps it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Deadline`].
    pub fn reset_failed(&mut self, unit: &str) -> Result<()> {
        match self.bus.call(of_manager("ResetFailedUnit"), &(unit,)) {
            // It is not there.
            Err(Error::Refused { .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Changes properties of a unit until the machine is switched off, and waits
    /// until they have worked. Optional ones that systemd does not know are left
    /// out.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Io`], [`Error::Deadline`].
    pub fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        const RUNTIME: bool = true;
        self.with_known(properties, |manager, properties| match properties {
            [] => Ok(()),
            _ => {
                let body = (unit, RUNTIME, variants(properties));
                manager.bus.call(of_manager("SetUnitProperties"), &body).map(drop)
            }
        })?;
        // systemd writes to cgroups before it takes the next message.
        self.property(PATH, MANAGER, "Version").map(drop)
    }

    /// What properties of a scope are just now, by their names and of the types that
    /// `properties` have; what systemd does not know is not among them.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such unit, [`Error::Io`],
    /// [`Error::Deadline`].
    pub fn values(&mut self, unit: &str, properties: &[Property]) -> Result<Vec<Property>> {
        let (path,) = self.bus.call(of_manager("GetUnit"), &(unit,))?.read::<(OwnedObjectPath,)>()?;
        let mut found = Vec::new();
        for property in properties {
            match self.get(path.as_str(), SCOPE, &property.name) {
                Err(Error::Refused { .. }) => {}
                value => found.extend(property.value.of_same_type(value?).map(|value| property.with(value))),
            }
        }
        Ok(found)
    }

    /// Moves a process into the cgroup `below` of a unit's: `/` is its own.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not ours, [`Error::Io`], [`Error::Deadline`].
    pub fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<()> {
        self.bus.call(of_manager("AttachProcessesToUnit"), &(unit, below, vec![pid])).map(drop)
    }

    /// Does it with the properties that systemd knows.
    fn with_known<T>(
        &mut self,
        properties: &[Property],
        mut act: impl FnMut(&mut Manager, &[Property]) -> Result<T>,
    ) -> Result<T> {
        let mut known = properties.to_vec();
        loop {
            let result = act(self, &known);
            let unknown = result.as_ref().err().and_then(Error::unknown_property);
            let is_it = |property: &Property| property.is_optional() && Some(property.name.as_str()) == unknown;
            let Some(at) = known.iter().position(is_it) else { return result };
            known.remove(at);
        }
    }

    /// Whether a unit has ended, or is about to.
    fn is_ending(&mut self, unit: &str) -> Result<bool> {
        let path = match self.bus.call(of_manager("GetUnit"), &(unit,)) {
            Err(error) if error.is_no_such_unit() => return Ok(true),
            answer => answer?.read::<(OwnedObjectPath,)>()?.0,
        };
        match self.property(path.as_str(), "org.freedesktop.systemd1.Unit", "ActiveState") {
            // It has gone meanwhile.
            Err(Error::Refused { .. }) => Ok(true),
            state => Ok(matches!(state?.as_str(), "inactive" | "failed" | "deactivating")),
        }
    }

    /// A property that is a text.
    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String> {
        let value = self.get(path, interface, name)?;
        String::try_from(value).map_err(|error| Error::Io {
            doing: format!("reading systemd's property {name}"),
            error: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        })
    }

    fn get(&mut self, path: &str, interface: &str, name: &str) -> Result<OwnedVariant> {
        let get = Target { destination: SYSTEMD, path, interface: "org.freedesktop.DBus.Properties", method: "Get" };
        let (value,) = self.bus.call(get, &(interface, name))?.read()?;
        Ok(value)
    }

    /// Calls a method that begins a job; the job.
    fn job<B: serde::Serialize + zbus::DynamicType>(&mut self, method: &str, body: &B) -> Result<Job> {
        let answer = self.bus.call(of_manager(method), body)?;
        let (path,): (OwnedObjectPath,) = answer.read()?;
        Ok(Job { path, sender: answer.sender })
    }

    /// Waits for the end of a job.
    fn wait_for(&mut self, unit: &str, job: &Job) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while let Some(signal) = self.bus.signal(end)? {
            if let Some(result) = job.result(&signal) {
                return match result == "done" {
                    true => Ok(()),
                    false => Err(Error::Job { unit: unit.into(), result }),
                };
            }
        }
        Err(Error::Deadline { what: format!("end of the job for {unit}"), after: PATIENCE })
    }
}

/// Something that systemd is about.
#[derive(Debug)]
struct Job {
    path: OwnedObjectPath,
    /// systemd, on a bus that others are on, too.
    sender: String,
}

impl Job {
    /// What it came to, if this signal tells.
    fn result(&self, signal: &Message) -> Option<String> {
        if signal.member != "JobRemoved" || signal.interface != MANAGER || signal.sender != self.sender {
            return None;
        }
        let (_, path, _, result) = signal.read::<(u32, ObjectPath<'_>, String, String)>().ok()?;
        (path.as_str() == self.path.as_str()).then_some(result)
    }
}

fn of_manager(method: &str) -> Target<'_> {
    Target { destination: SYSTEMD, path: PATH, interface: MANAGER, method }
}

fn variants(properties: &[Property]) -> Vec<(&str, Variant<'_>)> {
    properties.iter().map(|property| (property.name.as_str(), property.value.variant())).collect()
}

fn of_system(bus: Option<String>) -> Vec<Address> {
    let bus = bus.and_then(|address| Address::of_bus(&address));
    let bus = bus.unwrap_or_else(|| Address::path("/run/dbus/system_bus_socket", false));
    vec![Address::path("/run/systemd/private", true), bus]
}

fn of_user(runtime_dir: Option<String>, bus: Option<String>) -> Vec<Address> {
    let dir = runtime_dir.map(PathBuf::from);
    let own = dir.iter().map(|dir| Address::path(dir.join("systemd/private"), true));
    let bus = bus.and_then(|address| Address::of_bus(&address));
    let bus = bus.or_else(|| Some(Address::path(dir.as_ref()?.join("bus"), false)));
    own.chain(bus).collect()
}
