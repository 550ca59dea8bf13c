//! Messages, as they go over the wire.

use std::io;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{BE, DynamicType, LE, ObjectPath, Signature, to_bytes};
use zbus::{Type, Variant};

use crate::{Error, Result};

const METHOD_CALL: u8 = 1;
pub(crate) const METHOD_RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;

/// What a message is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// Whose it is, where there is a bus between.
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub method: &'a str,
}

/// What came.
#[derive(Debug)]
pub(crate) struct Message {
    pub kind: u8,
    pub reply_to: Option<u32>,
    pub interface: String,
    pub member: String,
    pub error: String,
    pub sender: String,
    body: Data<'static, 'static>,
    signature: Signature,
}

impl Message {
    /// Its content, if that is of such a type.
    pub fn read<'d, T: serde::Deserialize<'d> + Type>(&'d self) -> Result<T> {
        let doing = || format!("reading systemd's answer {}", self.member);
        if T::SIGNATURE.to_string_no_parens() != self.signature.to_string_no_parens() {
            let text = format!("it is {}, not {}", self.signature, T::SIGNATURE);
            return Err(Error::Io { doing: doing(), error: io::Error::new(io::ErrorKind::InvalidData, text) });
        }
        self.body.deserialize().map(|(value, _)| value).map_err(|error| malformed(&doing(), &error))
    }
}

pub(crate) fn malformed(doing: &str, error: &zbus::Error) -> Error {
    Error::Io { doing: doing.into(), error: io::Error::new(io::ErrorKind::InvalidData, error.to_string()) }
}

/// Byte order, kind, flags, version, length of the body, serial, fields.
type Header<V> = (u8, u8, u8, u8, u32, u32, Vec<(u8, V)>);

/// The value of a field that is written.
enum Field<'a> {
    Plain(Variant<'a>),
    /// Of a body: the types one behind the other, which as a [`Variant`] would be
    /// one in parentheses.
    Signature(String),
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = match self {
            Field::Plain(value) => return value.serialize(serializer),
            Field::Signature(text) => text,
        };
        let mut variant = serializer.serialize_struct("Variant", 2)?;
        variant.serialize_field("signature", &Signature::Signature)?;
        variant.serialize_field("value", text)?;
        variant.end()
    }
}

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// The header up to its fields.
const FIXED: usize = 16;

pub(crate) fn encode<B: Serialize + DynamicType>(
    serial: u32,
    to: Target<'_>,
    direct: bool,
    body: &B,
) -> zbus::Result<Vec<u8>> {
    let context = Context::new(LE, 0);
    let signature = body.signature();
    // Of nothing zbus has no encoding.
    let encoded = if signature == Signature::Unit { Vec::new() } else { to_bytes(context, body)?.bytes().to_vec() };
    let mut fields = vec![
        (PATH, Field::Plain(ObjectPath::try_from(to.path)?.into())),
        (INTERFACE, Field::Plain(to.interface.into())),
        (MEMBER, Field::Plain(to.method.into())),
    ];
    if !direct {
        fields.push((DESTINATION, Field::Plain(to.destination.into())));
    }
    if !encoded.is_empty() {
        fields.push((SIGNATURE, Field::Signature(signature.to_string_no_parens())));
    }
    let header: Header<Field<'_>> = (b'l', METHOD_CALL, 0, 1, encoded.len() as u32, serial, fields);
    let mut message = to_bytes(context, &header)?.bytes().to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(encoded);
    Ok(message)
}

fn number(bytes: &[u8], at: usize) -> usize {
    let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if bytes[0] == b'B' { u32::from_be_bytes(word) as usize } else { u32::from_le_bytes(word) as usize }
}

/// How long the first message is, if that can be told yet.
pub(crate) fn size(bytes: &[u8]) -> Option<usize> {
    (bytes.len() >= FIXED).then(|| (FIXED + number(bytes, 12)).next_multiple_of(8) + number(bytes, 4))
}

pub(crate) fn decode(bytes: &[u8]) -> zbus::Result<Message> {
    let context = Context::new(if bytes[0] == b'B' { BE } else { LE }, 0);
    let body = bytes[(FIXED + number(bytes, 12)).next_multiple_of(8)..].to_vec();
    let data = Data::new(bytes, context);
    let ((_, kind, _, _, _, _, fields), _): (Header<Variant<'_>>, _) = data.deserialize()?;
    let mut message = Message {
        kind,
        reply_to: None,
        interface: String::new(),
        member: String::new(),
        error: String::new(),
        sender: String::new(),
        body: Data::new(body, context),
        signature: Signature::Unit,
    };
    for (code, value) in fields {
        match (code, value) {
            (INTERFACE, Variant::Str(text)) => message.interface = text.as_str().into(),
            (MEMBER, Variant::Str(text)) => message.member = text.as_str().into(),
            (ERROR_NAME, Variant::Str(text)) => message.error = text.as_str().into(),
            (SENDER, Variant::Str(text)) => message.sender = text.as_str().into(),
            (REPLY_SERIAL, Variant::U32(serial)) => message.reply_to = Some(serial),
            (SIGNATURE, Variant::Signature(signature)) => message.signature = signature,
            _ => {}
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let target = Target { destination: "a.b", path: "/a", interface: "a.b.C", method: "Do" };
        let properties = vec![("PIDs", Variant::new(vec![7u32])), ("Delegate", Variant::new(true))];
        let bytes = encode(3, target, false, &("x.scope", "fail", properties)).expect("encoded");
        assert_eq!(size(&bytes), Some(bytes.len()));
        assert_eq!(size(&bytes[..15]), None);
        let message = decode(&bytes).expect("decoded");
        assert_eq!((message.member.as_str(), message.kind), ("Do", METHOD_CALL));
        assert_eq!(message.signature.to_string_no_parens(), "ssa(sv)");
        let signature = b"\x08\x01g\0\x07ssa(sv)\0";
        assert!(bytes.windows(signature.len()).any(|part| part == signature), "without parentheses");
        let (name, mode, properties): (String, String, Vec<(String, Variant<'_>)>) = message.read().expect("its body");
        assert_eq!((name.as_str(), mode.as_str(), properties.len()), ("x.scope", "fail", 2));
        assert!(message.read::<(String, u32)>().is_err(), "it is something else");
    }

    #[test]
    fn bytes_of_any_kind_are_no_message_and_no_harm() {
        let target = Target { destination: "a.b", path: "/a", interface: "a.b.C", method: "Do" };
        let whole = encode(1, target, true, &("x", 1u32)).expect("encoded");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                if size(&bytes) == Some(bytes.len()) {
                    decode(&bytes).map(|message| message.read::<(String, u32)>().is_ok()).ok();
                }
            }
        }
    }
}
