//! The keys by which a user leaves a terminal, and it goes on.

use std::fmt;

/// Keys that mean: leave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    /// So many of them have been typed, one after the other; they are held back until it
    /// is known what they mean.
    typed: usize,
}

impl DetachKeys {
    /// Ctrl-P, Ctrl-Q, as every engine has them.
    pub const USUAL: &str = "ctrl-p,ctrl-q";

    /// From a text such as `ctrl-p,ctrl-q`: keys with commas between, each one character
    /// or `ctrl-` and one of `a` to `z`, `@`, `[`, `\`, `]`, `^`, `_`. An empty text is for
    /// no keys.
    ///
    /// # Errors
    /// What is wrong with it, and what to give.
    pub fn parse(text: &str) -> Result<DetachKeys, String> {
        let keys = text.split(',').filter(|_| !text.is_empty()).map(key).collect::<Result<_, _>>()?;
        Ok(DetachKeys { keys, typed: 0 })
    }

    /// What of these bytes is meant for the process, and whether the user leaves.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match self.keys.get(self.typed) {
                Some(&key) if key == byte => self.typed += 1,
                _ => {
                    passed.extend_from_slice(&self.keys[..self.typed]);
                    self.typed = usize::from(self.keys.first() == Some(&byte));
                    if self.typed == 0 {
                        passed.push(byte);
                    }
                }
            }
            if self.typed > 0 && self.typed == self.keys.len() {
                self.typed = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }
}

fn key(text: &str) -> Result<u8, String> {
    let wrong = || {
        format!(
            "{text:?} is no key: give one character, or ctrl- and one of a to z, @, [, \\, ], ^, _, with commas between \
             several, such as {}",
            DetachKeys::USUAL
        )
    };
    match (text.as_bytes(), text.strip_prefix("ctrl-").map(str::as_bytes)) {
        (&[key], _) if key.is_ascii_graphic() || key == b' ' => Ok(key),
        (_, Some(&[key @ (b'a'..=b'z' | b'@' | b'['..=b'_')])) => Ok(key & 0x1f),
        _ => Err(wrong()),
    }
}

/// As [`DetachKeys::parse`] reads it.
impl fmt::Display for DetachKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, &key) in self.keys.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match key {
                1..=26 => write!(f, "ctrl-{}", char::from(key + b'a' - 1))?,
                0..=31 => write!(f, "ctrl-{}", char::from(key + b'@'))?,
                _ => write!(f, "{}", char::from(key))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_shown() {
        for (text, keys) in [
            ("ctrl-p,ctrl-q", &[16, 17][..]),
            ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[0, 27, 28, 29, 30, 31]),
            ("a,Z, ,~", b"aZ ~"),
            ("", b""),
        ] {
            let read = DetachKeys::parse(text).expect(text);
            assert_eq!((read.keys.as_slice(), read.to_string().as_str()), (keys, text));
        }
        for wrong in ["ctrl-", "ctrl-P", "ctrl-1", "ctrl-pq", "ab", ",", "a,", "\u{e4}", "\x10"] {
            let said = DetachKeys::parse(wrong).expect_err(wrong);
            assert!(said.contains("ctrl-p,ctrl-q"), "{said}");
        }
    }

    /// What passes, piece by piece, and whether the user left after the last.
    fn typed(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::parse(keys).expect("keys");
        let (mut all, mut left) = (Vec::new(), false);
        for piece in pieces {
            assert!(!left);
            let (passed, leaves) = keys.filter(piece);
            all.extend(passed);
            left = leaves;
        }
        (all, left)
    }

    #[test]
    fn who_types_them_leaves_and_what_only_begins_like_them_passes() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ls\x10\x11never"]), (b"ls".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ls\x10", b"\x11"]), (b"ls".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10x\x10\x10\x11"]), (b"\x10x\x10".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"a\x10"]), (b"a".to_vec(), false));
        assert_eq!(typed("a", &[b"xa"]), (b"x".to_vec(), true));
        assert_eq!(typed("", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}
