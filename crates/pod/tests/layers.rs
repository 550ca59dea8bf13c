//! The library's modules are layers: lib.rs lists them, lowest first, and each
//! imports from itself and from those above it in that list alone.
//!
//! Files of a layer may not need one another in a circle either: such files can
//! only be read all at once. The exception is a type whose methods stand in a
//! module and its children.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules whose type has methods in their children, and that type.
const OF_ONE_TYPE: [(&str, &str); 5] =
    [("config", "Config"), ("oci", "Runtime"), ("plan::step", "Step"), ("resources", "Resources"), ("store", "Store")];

/// The library's files, by the path of their module.
struct Library {
    layers: Vec<String>,
    files: BTreeMap<String, String>,
}

impl Library {
    fn read() -> Library {
        Library::of("pod")
    }

    /// That of another crate.
    fn of(name: &str) -> Library {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let mut files = BTreeMap::new();
        let mut dirs = vec![src.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                match path.extension() {
                    _ if path.is_dir() => dirs.push(path),
                    Some(rs) if rs == "rs" => {
                        let text = fs::read_to_string(&path).expect("a file");
                        files.insert(module(path.strip_prefix(&src).expect("below it")), code(&text));
                    }
                    _ => {}
                }
            }
        }
        let modules = |line: &str| Some(line.trim_end().rsplit_once("mod ")?.1.strip_suffix(';')?.to_string());
        let layers = files["lib"].lines().filter_map(modules).collect();
        Library { layers, files }
    }

    /// The modules that a file names, each with what it names of it.
    fn imports(&self, from: &str) -> BTreeSet<(String, String)> {
        let code = &self.files[from];
        let uses = code.split("\nuse ").skip(1).filter_map(|rest| rest.split_once(';'));
        let public = code.split(" use ").skip(1).filter_map(|rest| rest.split_once(';'));
        let mut paths: Vec<String> = uses.chain(public).flat_map(|(tree, _)| leaves(tree)).collect();
        let is_path = |c: char| c.is_alphanumeric() || "_:".contains(c);
        paths.extend(
            code.split(|c| !is_path(c)).filter(|word| word.contains("::") && !word.ends_with("::")).map(String::from),
        );
        paths.iter().filter_map(|path| self.resolve(from, path)).filter(|(to, _)| to != from).collect()
    }

    /// The module that a path leads to, through what others only pass on.
    fn resolve(&self, from: &str, path: &str) -> Option<(String, String)> {
        let words: Vec<&str> = path.split("::").collect();
        let own: Vec<&str> = from.split("::").collect();
        let supers = words.iter().take_while(|word| **word == "super").count();
        let (base, rest) = match words[0] {
            "crate" => (&own[..0], &words[1..]),
            "super" => (&own[..own.len() - supers], &words[supers..]),
            child if self.files.contains_key(&format!("{from}::{child}")) => (&own[..], &words[..]),
            _ => return None,
        };
        let full = [base, rest].concat();
        let depth = (1..=full.len()).rev().find(|&depth| self.files.contains_key(&full[..depth].join("::")))?;
        let (module, item) = (full[..depth].join("::"), full.get(depth).copied().unwrap_or_default());
        match self.passed_on(&module, item) {
            Some(child) => Some((format!("{module}::{child}"), item.into())),
            None => Some((module, item.into())),
        }
    }

    /// The child from which a module takes something that it only passes on.
    fn passed_on(&self, module: &str, item: &str) -> Option<&str> {
        let uses =
            self.files[module].split("\npub").skip(1).filter_map(|rest| rest.split_once("use ")?.1.split_once(';'));
        let is_it = |tree: &&str| leaves(tree).iter().any(|leaf| leaf.ends_with(&format!("::{item}")));
        let child = uses.map(|(tree, _)| tree).find(is_it)?.split("::").next()?;
        self.files.contains_key(&format!("{module}::{child}")).then_some(child)
    }
}

/// The module of a file.
fn module(path: &Path) -> String {
    let path: PathBuf =
        if path.ends_with("mod.rs") { path.parent().expect("a folder").into() } else { path.with_extension("") };
    path.iter().map(|part| part.to_str().expect("a name")).collect::<Vec<_>>().join("::")
}

/// What is no comment and no test.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().expect("a part");
    text.lines().map(|line| line.split("//").next().expect("a part")).collect::<Vec<_>>().join("\n")
}

/// The paths of `a::{b, c::{d, e}}`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().expect("a path").trim().to_string()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().expect("one").push(c),
        }
    }
    let full = |part: String| leaves(&part).into_iter().map(|leaf| format!("{head}{leaf}").replace("::self", ""));
    parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(full).collect()
}

fn layer(module: &str) -> &str {
    module.split("::").next().expect("a name")
}

#[test]
fn imports_go_down_only() {
    // Networks have layers, too.
    for (name, most) in [("pod", 300), ("net", 100)] {
        let library = Library::of(name);
        let height = |module: &str| library.layers.iter().position(|other| other == layer(module));
        assert!(library.layers.len() > 10, "{:?}", library.layers);
        let mut seen = 0;
        let is_code = |module: &&String| *module != "lib" && !module.split("::").any(|part| part == "tests");
        for from in library.files.keys().filter(is_code) {
            for (to, item) in library.imports(from) {
                seen += 1;
                assert!(height(&to) <= height(from), "{from} takes {item} from {to}, which is further up in lib.rs");
            }
        }
        assert!(seen > most, "the imports are not found any more: {seen}");
    }
}

#[test]
fn no_files_need_one_another() {
    let library = Library::read();
    let is_child = |parent: &str, child: &str| child.strip_prefix(parent).is_some_and(|rest| rest.starts_with("::"));
    let mut needs: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for from in library.files.keys().filter(|from| *from != "lib") {
        let of_its_type = |to: &str| OF_ONE_TYPE.iter().any(|(parent, _)| *parent == to && is_child(parent, from));
        let others = library.imports(from).into_iter().map(|(to, _)| to).filter(|to| !of_its_type(to));
        needs.insert(from, others.collect());
    }
    // A file that needs none of those left is taken away: those in circles stay.
    while let Some(done) = needs.iter().find(|(_, to)| to.iter().all(|to| !needs.contains_key(to.as_str()))) {
        let done = *done.0;
        needs.remove(done);
    }
    assert!(needs.is_empty(), "these need one another in a circle, or what does: {needs:#?}");
    for (module, name) in OF_ONE_TYPE {
        assert!(library.files[module].contains(&format!(" {name}")), "{module} has no {name}");
    }
}

#[test]
fn nearly_everything_is_in_a_layer_with_a_folder() {
    let library = Library::read();
    let flat: Vec<_> = library
        .files
        .keys()
        .filter(|module| {
            let has_folder = library.files.keys().any(|other| other.starts_with(&format!("{module}::")));
            !module.contains("::") && !has_folder
        })
        .collect();
    assert!(flat.len() <= 4, "{flat:?}");
}

#[test]
fn the_way_of_one_start_is_as_the_design_tells() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let design = fs::read_to_string(workspace.join("docs/design.md")).expect("the design");
    let way = design.split("## The way of one start").nth(1).and_then(|rest| rest.split("\n## ").next());
    let mut files = BTreeSet::new();
    for row in way.expect("a section").lines().filter(|line| line.contains(".rs` | `")) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let (file, function) = (cells[2], cells[3]);
        let text = fs::read_to_string(workspace.join(file)).expect(file);
        assert!(["(", "<"].iter().any(|next| text.contains(&format!("fn {function}{next}"))), "{file}: {function}");
        files.insert(file.to_string());
    }
    assert!((8..=14).contains(&files.len()), "{} files on the way of one start: {files:?}", files.len());
}
