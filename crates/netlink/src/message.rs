//! Messages, as they are put together.

/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
/// struct nlmsghdr: length, type, flags, sequence, port.
pub(crate) const HEADER: usize = 16;

/// Requests that are sent at once, done in their order. Each is done for itself;
/// one transaction are those of nf_tables alone.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(crate) messages: Vec<Message>,
}

impl Batch {
    /// None yet.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a request, and gives it to be filled.
    pub fn push(&mut self, message: Message) -> &mut Batch {
        self.messages.push(message);
        self
    }

    /// Adds those of another one.
    pub fn extend(&mut self, other: Batch) -> &mut Batch {
        self.messages.extend(other.messages);
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What they do, in order: what a plan prints.
    pub fn doings(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().map(|message| message.doing.as_str())
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub(crate) doing: String,
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A request of this kind (`RTM_NEWLINK`), with the fixed part that each of the
    /// kind has (struct ifinfomsg). `doing` says what it does, in an error and in a
    /// plan: `adding the address 10.87.0.2/16`.
    pub fn new(doing: impl Into<String>, kind: u16, fixed: &[u8]) -> Message {
        let mut body = fixed.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        Message { doing: doing.into(), kind, flags: REQUEST, body }
    }

    /// With these flags besides, such as `NLM_F_CREATE | NLM_F_EXCL`.
    #[must_use]
    pub fn flags(mut self, flags: i32) -> Message {
        self.flags |= flags as u16;
        self
    }

    /// Without an acknowledgement: those that begin and end a transaction have
    /// none.
    #[must_use]
    pub fn unacknowledged(mut self) -> Message {
        self.flags &= !(libc::NLM_F_ACK as u16);
        self
    }

    /// With what `fill` adds.
    #[must_use]
    pub fn with(mut self, fill: impl FnOnce(&mut Attributes<'_>)) -> Message {
        fill(&mut Attributes { bytes: &mut self.body });
        self
    }

    /// What it does.
    pub fn doing(&self) -> &str {
        &self.doing
    }

    /// Its bytes.
    pub(crate) fn encode(&self, sequence: u32, into: &mut Vec<u8>) {
        into.extend_from_slice(&((HEADER + self.body.len()) as u32).to_ne_bytes());
        into.extend_from_slice(&self.kind.to_ne_bytes());
        into.extend_from_slice(&self.flags.to_ne_bytes());
        into.extend_from_slice(&sequence.to_ne_bytes());
        into.extend_from_slice(&0u32.to_ne_bytes());
        into.extend_from_slice(&self.body);
    }
}

/// Attributes (struct nlattr), to be added to.
#[derive(Debug)]
pub struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// An attribute's bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.fixed(value)
    }

    /// A number of this machine's byte order, as rtnetlink has them.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, as nf_tables has them.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// A string, with the zero that ends it.
    pub fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// A presence.
    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.bytes(kind, &[])
    }

    /// Bytes that are no attribute: a struct that stands before some.
    pub fn fixed(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// An attribute that holds others. Say `kind | NLA_F_NESTED` where the kernel
    /// wants that.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let begin = self.bytes.len();
        self.bytes(kind, &[]);
        fill(&mut Attributes { bytes: self.bytes });
        let length = (self.bytes.len() - begin) as u16;
        self.bytes[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let message = Message::new("", 16, &[1]).with(|attributes| {
            attributes.str(3, "eth0").nest(18, |info| {
                info.u8(1, 7);
            });
        });
        let mut bytes = Vec::new();
        message.encode(5, &mut bytes);
        let words = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let little = "2c 00 00 00 10 00 05 00 05 00 00 00 00 00 00 00 01 00 00 00 \
                      09 00 03 00 65 74 68 30 00 00 00 00 0c 00 12 00 05 00 01 00 07 00 00 00";
        if cfg!(target_endian = "little") {
            assert_eq!(words(&bytes), little);
        }
    }
}
