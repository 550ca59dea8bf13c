//! Man pages, as those who read them do.

use std::fs;
use std::process::Command;

use crate::{Bed, has};

#[test]
fn every_page_is_as_groff_and_mandoc_want_it() {
    let bed = Bed::new();
    let pages: Vec<_> = fs::read_dir(bed.path("pages/man"))
        .expect("they are written")
        .map(|entry| entry.expect("a page").path())
        .collect();
    assert!(pages.len() > 40, "{pages:?}");
    for page in &pages {
        let text = fs::read_to_string(page).expect("a page");
        assert!(text.contains("\n.SH EXAMPLES\n") && text.contains("\n.EX\npodlet"), "{}: no example", page.display());
    }
    if has("groff") {
        assert_eq!(bed.ok(Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).args(&pages)), "");
    }
    if has("mandoc") {
        bed.ok(Command::new("mandoc").args(["-Tlint", "-Werror"]).args(&pages));
    }
}

#[test]
fn an_example_reads_as_it_is_typed() {
    if !has("groff") {
        return;
    }
    let bed = Bed::new();
    let page = bed.path("pages/man/podlet-inspect.1");
    let text = bed.ok(Command::new("groff").args(["-man", "-Tascii", "-P-cbou"]).arg(page));
    assert!(text.contains("podlet inspect -f '{{.Pid}}' web/db\n"), "{text}");
    assert!(text.contains("PODLET-INSPECT(1)") && text.contains("podlet 0."), "{text}");
}
