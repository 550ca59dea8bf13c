//! What the kernel answers.

/// One message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Such as `RTM_NEWLINK`.
    pub kind: u16,
    /// The fixed part, and attributes behind it.
    pub body: Vec<u8>,
}

/// The attributes that follow a fixed part of `fixed` bytes, by their kinds
/// without flags.
pub fn attributes(body: &[u8], fixed: usize) -> Vec<(u16, &[u8])> {
    const FLAGS: u16 = (libc::NLA_F_NESTED | libc::NLA_F_NET_BYTEORDER) as u16;
    let mut rest = body.get(fixed.next_multiple_of(4)..).unwrap_or_default();
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..length) else { break };
        found.push((u16::from_ne_bytes([c, d]) & !FLAGS, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The attribute of this kind, if it is there.
pub fn find<'a>(attributes: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)
}

/// The number of this machine's byte order at `at`.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
