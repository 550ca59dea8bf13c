//! Output in random pieces, the same for who writes it and for who checks it.

/// What is written, piece by piece: whether to stderr, and the bytes.
pub struct Scribble(u64);

impl Scribble {
    pub fn new(seed: u64) -> Scribble {
        Scribble(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Xorshift.
    fn random(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    /// As many pieces as the seed says, at most 40.
    pub fn pieces(mut self) -> Vec<(bool, Vec<u8>)> {
        let count = self.random(40);
        (0..count).map(|_| self.piece()).collect()
    }

    fn piece(&mut self) -> (bool, Vec<u8>) {
        // Around a buffer's size, too.
        let size = match self.random(6) {
            0 => 8190 + self.random(5),
            1 => self.random(40_000),
            _ => self.random(200),
        };
        let is_err = self.random(3) == 0;
        let lines = 1 + self.random(400);
        let byte = |it: &mut Scribble| if it.random(lines) == 0 { b'\n' } else { b' ' + it.random(95) as u8 };
        (is_err, (0..size).map(|_| byte(self)).collect())
    }
}
