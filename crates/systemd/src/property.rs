//! Properties of units, and how an annotation spells one.

use zbus::{OwnedVariant, Variant};

use crate::{Error, Result};

/// A property of a unit (systemd.resource-control(5), systemd.scope(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// As the D-Bus interface spells it, such as `MemoryMax`.
    pub name: String,
    /// Its value, of the type that the interface wants.
    pub value: Value,
    optional: bool,
}

/// A value, of one of the types that properties have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `b`.
    Bool(bool),
    /// `i`.
    I32(i32),
    /// `u`.
    U32(u32),
    /// `x`.
    I64(i64),
    /// `t`.
    U64(u64),
    /// `s`.
    Text(String),
    /// `as`.
    Texts(Vec<String>),
    /// `au`.
    Pids(Vec<u32>),
    /// `ay`.
    Bytes(Vec<u8>),
}

impl Value {
    /// As it goes into a message.
    pub(crate) fn variant(&self) -> Variant<'_> {
        match self {
            Value::Bool(value) => Variant::new(*value),
            Value::I32(value) => Variant::new(*value),
            Value::U32(value) => Variant::new(*value),
            Value::I64(value) => Variant::new(*value),
            Value::U64(value) => Variant::new(*value),
            Value::Text(value) => Variant::new(value.as_str()),
            Value::Texts(value) => Variant::new(value.iter().map(String::as_str).collect::<Vec<_>>()),
            Value::Pids(value) => Variant::new(value.clone()),
            Value::Bytes(value) => Variant::new(value.clone()),
        }
    }

    /// What came in a message, if it is of the type that this one is of.
    pub(crate) fn of_same_type(&self, value: OwnedVariant) -> Option<Value> {
        match self {
            Value::Bool(_) => value.try_into().map(Value::Bool),
            Value::I32(_) => value.try_into().map(Value::I32),
            Value::U32(_) => value.try_into().map(Value::U32),
            Value::I64(_) => value.try_into().map(Value::I64),
            Value::U64(_) => value.try_into().map(Value::U64),
            Value::Text(_) => value.try_into().map(Value::Text),
            Value::Texts(_) => value.try_into().map(Value::Texts),
            Value::Pids(_) => value.try_into().map(Value::Pids),
            Value::Bytes(_) => value.try_into().map(Value::Bytes),
        }
        .ok()
    }
}

impl Property {
    /// A property of that name.
    pub fn new(name: impl Into<String>, value: Value) -> Property {
        Property { name: name.into(), value, optional: false }
    }

    /// The same, but left out where systemd is too old to know it.
    pub fn optional(self) -> Property {
        Property { optional: true, ..self }
    }

    /// The same property with another value.
    pub(crate) fn with(&self, value: Value) -> Property {
        Property { value, ..self.clone() }
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.optional
    }

    /// From the text form of a GVariant, as annotations `org.systemd.property.*`
    /// have it: a bool, a number with or without its type, a text in quotes, a list
    /// of such texts. A time whose name ends in `Sec` is in seconds, and becomes
    /// the `USec` that systemd has.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    ///
    /// ```
    /// use podlet_systemd::{Property, Value};
    /// let property = Property::parse("TimeoutStopSec", "uint64 5").unwrap();
    /// assert_eq!(property, Property::new("TimeoutStopUSec", Value::U64(5_000_000)));
    /// ```
    pub fn parse(name: &str, text: &str) -> Result<Property> {
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            let reason = "the name of a property is of at least three letters".into();
            return Err(Error::Invalid { value: name.into(), reason });
        }
        let value = Value::parse(text)?;
        match name.strip_suffix("Sec").filter(|before| !before.ends_with('U')) {
            Some(before) => Ok(Property::new(format!("{before}USec"), value.in_microseconds(text)?)),
            None => Ok(Property::new(name, value)),
        }
    }
}

fn invalid(text: &str, reason: &str) -> Error {
    Error::Invalid { value: text.into(), reason: reason.into() }
}

impl Value {
    fn parse(text: &str) -> Result<Value> {
        let text = text.trim();
        let number = || invalid(text, "no number of that type");
        match text.split_once(' ').map(|(kind, rest)| (kind, rest.trim())) {
            _ if text == "true" || text == "false" => Ok(Value::Bool(text == "true")),
            _ if text.starts_with(['\'', '"']) => Ok(Value::Text(whole_text(text)?)),
            _ if text.starts_with('[') => Ok(Value::Texts(texts(text)?)),
            Some(("boolean", rest @ ("true" | "false"))) => Ok(Value::Bool(rest == "true")),
            Some(("int32", rest)) => rest.parse().map(Value::I32).map_err(|_| number()),
            Some(("uint32", rest)) => rest.parse().map(Value::U32).map_err(|_| number()),
            Some(("int64", rest)) => rest.parse().map(Value::I64).map_err(|_| number()),
            Some(("uint64", rest)) => rest.parse().map(Value::U64).map_err(|_| number()),
            Some(("string", rest)) => whole_text(rest).map(Value::Text),
            Some(_) | None => text.parse().map(Value::I32).map_err(|_| {
                let reason = "give true, false, a number such as `uint64 5`, a text in quotes, or a list of such texts \
                              in brackets";
                invalid(text, reason)
            }),
        }
    }

    fn in_microseconds(self, text: &str) -> Result<Value> {
        let seconds = match self {
            Value::I32(value) => u64::try_from(value).ok(),
            Value::U32(value) => Some(value.into()),
            Value::I64(value) => u64::try_from(value).ok(),
            Value::U64(value) => Some(value),
            _ => None,
        };
        let microseconds = seconds.and_then(|seconds| seconds.checked_mul(1_000_000));
        microseconds.map(Value::U64).ok_or_else(|| invalid(text, "a time in seconds is a number, 0 or more"))
    }
}

/// A text in quotes, and nothing behind it.
fn whole_text(text: &str) -> Result<String> {
    match quoted(text)? {
        (value, "") => Ok(value),
        _ => Err(invalid(text, "there is something behind the closing quote")),
    }
}

/// A text in quotes, and what stands behind it.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut chars = text.char_indices();
    let Some((_, quote @ ('\'' | '"'))) = chars.next() else {
        return Err(invalid(text, "a text stands in quotes"));
    };
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped @ ('\\' | '\'' | '"'))) => value.push(escaped),
                _ => return Err(invalid(text, "of backslashes only \\\\, \\' and \\\" are understood")),
            },
            c if c == quote => return Ok((value, text[at + 1..].trim_start())),
            c => value.push(c),
        }
    }
    Err(invalid(text, "there is no closing quote"))
}

fn texts(text: &str) -> Result<Vec<String>> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let mut rest = inner.ok_or_else(|| invalid(text, "there is no closing bracket"))?.trim();
    let mut list = Vec::new();
    while !rest.is_empty() {
        let (value, behind) = quoted(rest)?;
        list.push(value);
        rest = match behind.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if behind.is_empty() => behind,
            None => return Err(invalid(text, "texts of a list are parted by commas")),
        };
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, text: &str) -> Property {
        Property::parse(name, text).unwrap_or_else(|error| panic!("{name} {text}: {error}"))
    }

    #[test]
    fn values_are_read_as_gvariant_writes_them() {
        let known = [
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("5", Value::I32(5)),
            ("int32 -5", Value::I32(-5)),
            ("uint32 5", Value::U32(5)),
            ("int64 -5", Value::I64(-5)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("'inactive-or-failed'", Value::Text("inactive-or-failed".into())),
            (r#""it's""#, Value::Text("it's".into())),
            (r"'a\'b\\'", Value::Text(r"a'b\".into())),
            ("[]", Value::Texts(vec![])),
            ("['a.service', 'b.service']", Value::Texts(vec!["a.service".into(), "b.service".into()])),
        ];
        for (text, value) in known {
            assert_eq!(parsed("CollectMode", text), Property::new("CollectMode", value), "{text}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for text in ["10", "uint64 10", "int32 10"] {
            assert_eq!(
                parsed("TimeoutStopSec", text),
                Property::new("TimeoutStopUSec", Value::U64(10_000_000)),
                "{text}"
            );
        }
        assert_eq!(parsed("TimeoutStopUSec", "uint64 10"), Property::new("TimeoutStopUSec", Value::U64(10)));
        for text in ["-1", "'10'", "uint64 18446744073709551615"] {
            assert!(Property::parse("TimeoutStopSec", text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_come_back_as_they_went() {
        let values = [
            Value::Bool(true),
            Value::I32(-5),
            Value::U32(5),
            Value::I64(-5),
            Value::U64(u64::MAX),
            Value::Text("continue".into()),
            Value::Texts(vec!["a".into(), "b".into()]),
            Value::Pids(vec![1, 2]),
            Value::Bytes(vec![]),
            Value::Bytes(vec![7, 2]),
        ];
        for value in values {
            let sent = || value.variant().try_into_owned().expect("an owned value");
            assert_eq!(value.of_same_type(sent()), Some(value.clone()));
            let other = if matches!(value, Value::Bool(_)) { Value::U64(0) } else { Value::Bool(true) };
            assert_eq!(other.of_same_type(sent()), None, "{value:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in ["", "yes", "uint64 -1", "uint64", "'a", "'a' b", "['a' 'b']", "['a'", "(1, 2)", r"'\n'", "uint8 1"]
        {
            assert!(Property::parse("CollectMode", text).is_err(), "{text}");
        }
        for name in ["", "ab", "Collect Mode", "Collect-Mode", "Mode1"] {
            assert!(Property::parse(name, "true").is_err(), "{name}");
        }
    }
}
