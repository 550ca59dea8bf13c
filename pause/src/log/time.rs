//! Points in time, as RFC 3339 has them.

use crate::arch::{nr, syscall};

/// Bytes of a time: `2026-11-30T12:00:00.123456789Z`.
pub const LENGTH: usize = 30;

const DAY: u64 = 24 * 60 * 60;

/// Seconds and nanoseconds since the epoch.
pub fn now() -> [u64; 2] {
    let mut time = [0u64; 2];
    // SAFETY: a timespec is two 64-bit words; CLOCK_REALTIME is 0.
    unsafe { syscall(nr::CLOCK_GETTIME, [0, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time
}

/// Writes a time in UTC.
pub fn show([seconds, nanoseconds]: [u64; 2], text: &mut [u8; LENGTH]) {
    let (year, month, day) = date(seconds / DAY);
    let second = seconds % DAY;
    *text = *b"0000-00-00T00:00:00.000000000Z";
    let fields = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, second / 3600),
        (14, 2, second / 60 % 60),
        (17, 2, second % 60),
        (20, 9, nanoseconds),
    ];
    for (begin, length, mut number) in fields {
        for digit in text[begin..begin + length].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

/// Year, month and day of the Gregorian calendar, that many days after the epoch.
fn date(days: u64) -> (u64, u64, u64) {
    const YEARS_400: u64 = 146_097;
    // From the first of March of the year 0, so that a leap day is a year's last.
    let days = days + 719_468;
    let of_era = days % YEARS_400;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Five months of 153 days, over and over.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (days / YEARS_400 * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(seconds: u64, nanoseconds: u64) -> [u8; LENGTH] {
        let mut text = [0; LENGTH];
        show([seconds, nanoseconds], &mut text);
        text
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // Taken from date(1).
        assert_eq!(&shown(0, 0), b"1970-01-01T00:00:00.000000000Z");
        assert_eq!(&shown(951_782_399, 1), b"2000-02-28T23:59:59.000000001Z");
        assert_eq!(&shown(951_782_400, 0), b"2000-02-29T00:00:00.000000000Z");
        assert_eq!(&shown(1_709_251_199, 999_999_999), b"2024-02-29T23:59:59.999999999Z");
        assert_eq!(&shown(1_798_761_599, 0), b"2026-12-31T23:59:59.000000000Z");
        assert_eq!(&shown(4_107_542_400, 0), b"2100-03-01T00:00:00.000000000Z");
        assert_eq!(&shown(4_107_542_399, 0), b"2100-02-28T23:59:59.000000000Z", "no leap year");
    }
}
