//! The table that is printed: one line a measurement, what it is aimed at
//! beside it.

/// Columns of a line that has only words.
pub const NONE: [&str; 3] = ["", "", ""];

/// Prints the head of a section and of its columns.
pub fn section(title: &str, columns: [&str; 3]) {
    println!("\n{title}");
    line("", columns, "aim");
}

/// Prints one line.
pub fn line(what: &str, columns: [&str; 3], aim: &str) {
    let [first, second, third] = columns;
    println!("  {what:<48} {first:>10} {second:>9} {third:>9}  {aim}");
}

pub fn ms(value: f64) -> String {
    format!("{value:.2} ms")
}

pub fn times(value: f64) -> String {
    format!("{value:.2} x")
}

pub fn kib(value: f64) -> String {
    format!("{value:.0} KiB")
}

/// An aim, and whether it was reached.
pub fn aim(text: &str, reached: bool) -> String {
    format!("{text}: {}", if reached { "yes" } else { "NO" })
}
