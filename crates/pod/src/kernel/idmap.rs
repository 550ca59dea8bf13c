//! Maps of ids between user namespaces (user_namespaces(7)).

/// A line of `uid_map` or `gid_map` (user_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdMap {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// Whether `id` exists inside.
    pub fn contains(&self, id: u32) -> bool {
        self.covers(id, 1)
    }

    /// Whether all of `count` ids from `first` on exist inside.
    pub(crate) fn covers(&self, first: u32, count: u32) -> bool {
        first.checked_sub(self.inside).is_some_and(|before| before < self.count && count <= self.count - before)
    }

    /// Whether there is at least one id in it, and none above the last that the
    /// kernel has.
    pub(crate) fn is_possible(&self) -> bool {
        let fits = |first: u32| first.checked_add(self.count).is_some();
        self.count > 0 && fits(self.inside) && fits(self.outside)
    }

    /// What `id` outside is inside, if it is mapped.
    pub(crate) fn inside_of(&self, id: u32) -> Option<u32> {
        id.checked_sub(self.outside).filter(|&before| before < self.count).map(|before| self.inside + before)
    }
}

/// What the kernel shows for an id that is not mapped: `overflowuid` and
/// `overflowgid` (proc_sys_kernel(5)).
pub(crate) const OVERFLOW: u32 = 65534;

/// What an id outside is inside, if it is mapped.
pub(crate) fn inside(id: u32, maps: &[IdMap]) -> Option<u32> {
    maps.iter().find_map(|map| map.inside_of(id))
}

/// What an id inside is outside, if it is mapped.
pub(crate) fn outside(id: u32, maps: &[IdMap]) -> Option<u32> {
    maps.iter().find(|map| map.contains(id)).map(|map| map.outside + (id - map.inside))
}

/// What an id inside is on the machine: without a map, itself.
pub(crate) fn on_machine(id: u32, maps: &[IdMap]) -> u32 {
    outside(id, maps).unwrap_or(id)
}

/// The kernel's text for several lines.
pub fn show_maps(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count)).collect()
}

/// The lines of a `uid_map` or `gid_map`.
pub(crate) fn parse_map(text: &str) -> Vec<IdMap> {
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(|word| word.parse().ok());
        Some(IdMap { inside: words.next()??, outside: words.next()??, count: words.next()?? })
    };
    text.lines().filter_map(line).collect()
}
