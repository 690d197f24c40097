//! The three date forms of S3: ISO 8601 in XML, IMF-fixdate in headers, and the compact form of
//! signatures. All UTC.

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Civil {
    fn from_secs(secs: u64) -> Self {
        // Days are counted from 0000-03-01, so that a leap day is the last of its year.
        let days = secs / 86_400 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Civil {
            year: (year_of_era + era * 400 + u64::from(month <= 2)) as i64,
            month,
            day: of_year - (153 * shifted + 2) / 5 + 1,
            hour: secs / 3600 % 24,
            minute: secs / 60 % 60,
            second: secs % 60,
        }
    }

    /// Seconds since 1970; `None` for a date that is none, or before.
    fn to_secs(self) -> Option<u64> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days_of_month = match self.month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let fits = (1970..=9999).contains(&self.year)
            && (1..=days_of_month).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60;
        if !fits {
            return None;
        }
        let year = (self.year - i64::from(self.month <= 2)) as u64;
        let shifted = (self.month + 9) % 12;
        let of_year = (153 * shifted + 2) / 5 + self.day - 1;
        let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
        Some(days * 86_400 + self.hour * 3600 + self.minute * 60 + self.second)
    }
}

/// `2013-05-24T00:00:00.000Z`
pub fn iso(ms: u64) -> String {
    let c = Civil::from_secs(ms / 1000);
    // Listings hold a thousand of these: digits are set without the machinery of formats.
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let year = c.year.unsigned_abs() % 10_000;
    let fields = [
        (3, 4, year),
        (6, 2, c.month),
        (9, 2, c.day),
        (12, 2, c.hour),
        (15, 2, c.minute),
        (18, 2, c.second),
        (22, 3, ms % 1000),
    ];
    for (last, digits, mut value) in fields {
        for at in 0..digits {
            text[last - at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// `Fri, 24 May 2013 00:00:00 GMT`
pub fn http(ms: u64) -> String {
    let secs = ms / 1000;
    let c = Civil::from_secs(secs);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[(secs / 86_400 % 7) as usize],
        c.day,
        MONTHS[(c.month - 1) as usize],
        c.year,
        c.hour,
        c.minute,
        c.second
    )
}

/// `20130524T000000Z`
pub fn compact(ms: u64) -> String {
    let c = Civil::from_secs(ms / 1000);
    format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Reads [`compact`]; seconds since 1970.
pub fn parse_compact(text: &str) -> Option<u64> {
    if text.len() != 16 || !text.is_ascii() || &text[8..9] != "T" || &text[15..] != "Z" {
        return None;
    }
    Civil {
        year: digits(&text[0..4])? as i64,
        month: digits(&text[4..6])?,
        day: digits(&text[6..8])?,
        hour: digits(&text[9..11])?,
        minute: digits(&text[11..13])?,
        second: digits(&text[13..15])?,
    }
    .to_secs()
}

/// Reads the three forms that HTTP allows, and ISO 8601 in UTC; seconds since 1970.
pub fn parse_http(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        return parse_iso(text);
    }
    let words: Vec<&str> = text.split([' ', '-', ',']).filter(|w| !w.is_empty()).collect();
    // `Fri, 24 May 2013 00:00:00 GMT`, `Friday, 24-May-13 00:00:00 GMT`, `Fri May 24 00:00:00 2013`
    let (day, month, year, time) = match words[..] {
        [_, day, month, year, time, "GMT" | "UTC" | "+0000"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| month.eq_ignore_ascii_case(name))? as u64 + 1;
    let year = match (year.len(), digits(year)? as i64) {
        (2, short) if short < 70 => short + 2000,
        (2, short) => short + 1900,
        (4, year) => year,
        _ => return None,
    };
    let (hour, minute, second) = time_of_day(time)?;
    Civil { year, month, day: digits(day)?, hour, minute, second }.to_secs()
}

fn time_of_day(text: &str) -> Option<(u64, u64, u64)> {
    let mut fields = text.split(':').map(digits);
    let time = (fields.next()??, fields.next()??, fields.next()??);
    fields.next().is_none().then_some(time)
}

fn parse_iso(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut fields = date.split('-').map(digits);
    let (year, month, day) = (fields.next()??, fields.next()??, fields.next()??);
    let (hour, minute, second) = time_of_day(time.split('.').next()?)?;
    Civil { year: year as i64, month, day, hour, minute, second }.to_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates_in_all_forms() {
        for (secs, compact_form, http_form) in [
            (0, "19700101T000000Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "20000229T000000Z", "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_369_353_600, "20130524T000000Z", "Fri, 24 May 2013 00:00:00 GMT"),
            (1_445_412_480, "20151021T072800Z", "Wed, 21 Oct 2015 07:28:00 GMT"),
            (4_107_542_399, "21000228T235959Z", "Sun, 28 Feb 2100 23:59:59 GMT"),
        ] {
            assert_eq!(compact(secs * 1000), compact_form);
            assert_eq!(http(secs * 1000), http_form);
            assert_eq!(parse_compact(compact_form), Some(secs));
            assert_eq!(parse_http(http_form), Some(secs));
            assert_eq!(parse_http(&iso(secs * 1000)), Some(secs));
        }
        assert_eq!(iso(1_369_353_600_007), "2013-05-24T00:00:00.007Z");
        assert_eq!(parse_http("Friday, 24-May-13 00:00:00 GMT"), Some(1_369_353_600));
        assert_eq!(parse_http("Fri May 24 00:00:00 2013"), Some(1_369_353_600));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "20130230T000000Z",
            "20131301T000000Z",
            "2013524T0000000Z",
            "20130524T250000Z",
            "éé130524T0000Z",
            "19691231T235959Z",
        ] {
            assert_eq!(parse_compact(text), None, "{text}");
        }
        for text in
            ["", "Fri, 24 Foo 2013 00:00:00 GMT", "Fri, 24 May 2013 00:00 GMT", "yesterday", "24"]
        {
            assert_eq!(parse_http(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_round_trips() {
        for day in 0..60_000 {
            let ms = day * 86_400_000 + 43_200_000;
            assert_eq!(parse_compact(&compact(ms)), Some(ms / 1000));
        }
    }
}
