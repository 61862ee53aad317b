//! The date formats of the clouds.

use alloc::format;
use alloc::string::String;

use crate::base::time::WallClock;

/// Returns the time as SigV4 writes it: `20261121T064044Z`.
#[must_use]
pub fn compact(at: WallClock) -> String {
    let digits: String = format!("{at}").chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(digits.len().saturating_sub(6));
    format!("{day}T{time}Z")
}

/// Returns the seconds of UNIX time of a text like `2026-11-21T06:40:44Z`, which is in UTC.
#[must_use]
pub fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.splitn(3, ':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let is_valid = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !is_valid || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Converts a date of the Gregorian calendar to days, in years that begin in March (H. Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms", days_from_civil).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(text: &str) -> Option<u64> {
    let is_plain = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_and_read() {
        for (text, secs, short) in [
            ("1970-01-01T00:00:00Z", 0, "19700101T000000Z"),
            ("2000-02-29T00:00:00Z", 951_782_400, "20000229T000000Z"),
            ("2015-08-30T12:36:00Z", 1_440_938_160, "20150830T123600Z"),
            ("2100-03-01T00:00:00.5Z", 4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(seconds(text), Some(secs), "{text}");
            assert_eq!(compact(WallClock(secs * 1_000_000_000)), short);
        }
        for bad in ["", "Z", "2026-13-01T00:00:00Z", "2026-1T1Z", "2026-01-01T00:00:00", "é-T:Z"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
