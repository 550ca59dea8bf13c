//! Files that tell scripts what was made: `--cidfile`, `--pidfile`,
//! `--pod-id-file`.
//!
//! They are opened before anything is made, so that one that cannot be written
//! changes nothing; and removed where nothing comes of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

/// Where a container is told of.
#[derive(Args, Default)]
pub struct IdFileArgs {
    /// Write its name, as commands take it, to a file that is not there yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Write the pid of its main process to a file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
}

impl IdFileArgs {
    /// Opens both; that of its name has it from here on.
    pub fn open(&self, name: &str) -> Result<IdFiles> {
        let named = self.cidfile.as_deref().map(|path| IdFile::with_name("--cidfile", path, name)).transpose()?;
        let pid = self.pidfile.as_deref().map(|path| IdFile::open("--pidfile", path, false)).transpose()?;
        Ok(IdFiles { named, pid })
    }
}

/// The files of a container, which go again unless they are [kept](IdFiles::keep).
pub struct IdFiles {
    named: Option<IdFile>,
    pid: Option<IdFile>,
}

impl IdFiles {
    /// The container runs, or is made. The file of its name, if there is one.
    pub fn keep(self, pid: Option<u32>) -> Result<Option<PathBuf>> {
        if let Some(file) = self.pid {
            // Its end may have come first.
            file.keep(&pid.map(|pid| format!("{pid}\n")).unwrap_or_default())?;
        }
        self.named.map(|file| file.keep("")).transpose()
    }
}

/// A file that is there, and goes again unless it is [kept](IdFile::keep).
pub struct IdFile {
    option: &'static str,
    path: Option<PathBuf>,
    file: File,
}

impl IdFile {
    /// A new one, with a name in it.
    pub fn with_name(option: &'static str, path: &Path, name: &str) -> Result<IdFile> {
        let mut file = IdFile::open(option, path, true)?;
        file.write(&format!("{name}\n"))?;
        Ok(file)
    }

    fn open(option: &'static str, path: &Path, is_new: bool) -> Result<IdFile> {
        let open = File::options().write(true).create(true).create_new(is_new).truncate(true).open(path);
        let file = match open {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("{option} {path:?}: is there already, of something that runs perhaps: remove it")
            }
            opened => opened.with_context(|| format!("{option} {path:?}"))?,
        };
        Ok(IdFile { option, path: Some(path.into()), file })
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        self.file.write_all(text.as_bytes()).with_context(|| format!("{} {path:?}", self.option))
    }

    /// Writes more to it, and lets it stay. Where it is.
    pub fn keep(mut self, text: &str) -> Result<PathBuf> {
        self.write(text)?;
        Ok(self.path.take().unwrap_or_default())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            std::fs::remove_file(path).ok();
        }
    }
}

/// The pod that a file of `--pod-id-file` names.
pub fn pod_of(path: &Path) -> Result<String> {
    let option = || format!("--pod-id-file {path:?}");
    let text = super::settings::read_text(path).with_context(option)?;
    match text.lines().map(str::trim).collect::<Vec<_>>()[..] {
        [name] if !name.is_empty() => Ok(name.into()),
        _ => bail!("{}: has not one line, the pod's name", option()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_again_unless_something_comes_of_it() {
        let dir = std::env::temp_dir().join(format!("podlet-id-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let (cid, pid) = (dir.join("cid"), dir.join("pid"));
        let args = IdFileArgs { cidfile: Some(cid.clone()), pidfile: Some(pid.clone()) };
        drop(args.open("web/a").expect("files"));
        assert!(!cid.exists() && !pid.exists());
        let kept = args.open("web/a").expect("files").keep(Some(7)).expect("written");
        assert_eq!(kept.as_deref(), Some(cid.as_path()));
        let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
        assert_eq!((read(&cid), read(&pid)), ("web/a\n".into(), "7\n".into()));
        let error = args.open("b").err().expect("it is there").to_string();
        assert!(error.starts_with("--cidfile") && error.contains("remove it"), "{error}");
        // Nothing of another one's is touched.
        assert_eq!((read(&cid), read(&pid)), ("web/a\n".into(), "7\n".into()));
        std::fs::write(&cid, "web\n").expect("a file");
        assert_eq!(pod_of(&cid).expect("a name"), "web");
        for odd in ["", "\n", "a\nb\n"] {
            std::fs::write(&cid, odd).expect("a file");
            assert!(pod_of(&cid).is_err(), "{odd:?}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
