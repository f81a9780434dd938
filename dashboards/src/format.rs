//! Numbers as people read them. Pure; the same everywhere.

/// `568.7 M`: four digits at most and a unit of thousands.
#[must_use]
pub fn count(value: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    for (unit, letter) in UNITS {
        // 999,950 prints as 1.0 M, not as 1000.0 k.
        if value >= unit - unit / 20_000 {
            let scaled = value as f64 / unit as f64;
            let digits = if scaled >= 99.95 { 1 } else { 2 };
            return format!("{scaled:.digits$} {letter}");
        }
    }
    value.to_string()
}

/// `568,740,352`.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A fraction as `93.42` percent, without the sign; `–` where there is none.
#[must_use]
pub fn percent(fraction: Option<f64>) -> String {
    fraction.map_or_else(|| "–".to_owned(), |value| format!("{:.2}", value * 100.0))
}

/// A difference in points: `+1.25`, `−0.50`, `0.00`.
#[must_use]
pub fn points(value: f64) -> String {
    let text = format!("{value:+.2}");
    if text.ends_with("0.00") && value.abs() < 0.01 { "0.00".to_owned() } else { text.replace('-', "−") }
}

/// A plain number with so many decimals; `–` where there is none.
#[must_use]
pub fn decimals(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// Images per second: no decimals from 100 up.
#[must_use]
pub fn rate(value: Option<f64>) -> String {
    decimals(value, if value.is_some_and(|value| value >= 100.0) { 0 } else { 1 })
}

/// `1`, `0.75`: α as in the sweep file.
#[must_use]
pub fn alpha(value: f64) -> String {
    format!("{value}")
}

/// `4.2 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// `14.2 MiB`.
#[must_use]
pub fn bytes(value: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if value >= unit {
            return format!("{:.1} {name}", value as f64 / unit as f64);
        }
    }
    format!("{value} B")
}

/// `2026-11-23 02:07:32Z` of Unix milliseconds: the date algorithm of Howard Hinnant's "chrono-compatible
/// low-level date algorithms".
#[must_use]
pub fn time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.00 k"),
            (470_072, "470.1 k"),
            (999_960, "1.00 M"),
            (4_231_976, "4.23 M"),
            (41_030_272, "41.03 M"),
            (568_740_352, "568.7 M"),
            (4_867_293_184, "4.87 G"),
        ] {
            assert_eq!(count(value), expected, "{value}");
        }
        assert_eq!(grouped(568_740_352), "568,740,352");
        assert_eq!(grouped(12), "12");
    }

    #[test]
    fn durations() {
        for (seconds, expected) in [
            (0.04, "0.0 s"),
            (4.21, "4.2 s"),
            (9.97, "10 s"),
            (59.7, "1 min 00 s"),
            (185.0, "3 min 05 s"),
            (7_620.0, "2 h 07 min"),
            (273_600.0, "3 d 04 h"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn dates() {
        for (unix_ms, expected) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_826_245_000, "2000-02-29 12:10:45Z"),
            (1_795_399_652_000, "2026-11-23 02:07:32Z"),
        ] {
            assert_eq!(time(unix_ms), expected);
        }
    }

    #[test]
    fn fractions_and_sizes() {
        assert_eq!(percent(Some(0.934_21)), "93.42");
        assert_eq!(percent(None), "–");
        assert_eq!([points(1.25), points(-0.504), points(-0.001)], ["+1.25", "−0.50", "0.00"]);
        assert_eq!(rate(Some(12.34)), "12.3");
        assert_eq!(rate(Some(1234.5)), "1234");
        assert_eq!(bytes(14_889_000), "14.2 MiB");
        assert_eq!(alpha(0.75), "0.75");
    }
}
