//! Dates as templates print them, without a time zone database.

/// Days of a week, beginning with that of 1970-01-01.
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A point in time as a wall clock shows it.
#[derive(Debug, Clone, Copy)]
struct Moment {
    days: i64,
    /// Of the day, below 86,400.
    seconds: i64,
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
}

impl Moment {
    /// From seconds since 1970-01-01 00:00 on that clock.
    fn new(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        // Counted from 0000-03-01, years end with the leap day, and the months' lengths repeat every five months
        // (Hinnant, "chrono-Compatible Low-Level Date Algorithms"). An era has 400 years.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { days, seconds: seconds.rem_euclid(86_400), year, month, day }
    }

    fn day_of_year(&self) -> i64 {
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][self.month as usize - 1];
        before + self.day + i64::from(is_leap && self.month > 2)
    }
}

/// Formats seconds since 1970-01-01 00:00 by the directives of C's `strftime` in the C locale. `%-d` and the like leave
/// out leading zeros. Returns the first directive that is not known, if there is one.
pub(super) fn strftime(format: &str, seconds: i64) -> Result<String, String> {
    let moment = Moment::new(seconds);
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut directive = rest.next();
        let bare = directive == Some('-');
        if bare {
            directive = rest.next();
        }
        let formatted = directive.and_then(|directive| expand(directive, &moment));
        let Some(formatted) = formatted else {
            return Err(format!("%{}{}", if bare { "-" } else { "" }, directive.map(String::from).unwrap_or_default()));
        };
        let trimmed = formatted.trim_start_matches('0');
        out.push_str(match (bare, trimmed) {
            (true, "") => "0",
            (true, trimmed) => trimmed,
            (false, _) => &formatted,
        });
    }
    Ok(out)
}

fn expand(directive: char, moment: &Moment) -> Option<String> {
    let month = MONTHS[moment.month as usize - 1];
    let weekday = moment.days.rem_euclid(7);
    let weekday_name = WEEKDAYS[weekday as usize];
    let (hour, minute, second) = (moment.seconds / 3600, moment.seconds / 60 % 60, moment.seconds % 60);
    let group =
        |directives: &[char]| -> Option<Vec<String>> { directives.iter().map(|&d| expand(d, moment)).collect() };
    Some(match directive {
        '%' => "%".to_owned(),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        'Y' => moment.year.to_string(),
        'y' => format!("{:02}", moment.year.rem_euclid(100)),
        'm' => format!("{:02}", moment.month),
        'B' => month.to_owned(),
        'b' | 'h' => month[..3].to_owned(),
        'd' => format!("{:02}", moment.day),
        'e' => format!("{:2}", moment.day),
        'j' => format!("{:03}", moment.day_of_year()),
        'A' => weekday_name.to_owned(),
        'a' => weekday_name[..3].to_owned(),
        // Weekdays count from Sunday, and `WEEKDAYS` from Thursday.
        'w' => ((weekday + 4) % 7).to_string(),
        'u' => ((weekday + 3) % 7 + 1).to_string(),
        'H' => format!("{hour:02}"),
        'I' => format!("{:02}", (hour + 11) % 12 + 1),
        'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'F' => group(&['Y', 'm', 'd'])?.join("-"),
        'T' => group(&['H', 'M', 'S'])?.join(":"),
        'R' => group(&['H', 'M'])?.join(":"),
        'D' => group(&['m', 'd', 'y'])?.join("/"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let all = "%Y-%m-%d %H:%M:%S %A %a %B %b %j %y %I%p %-d %-I %w%u %%";
        let cases = [
            (0, "1970-01-01 00:00:00 Thursday Thu January Jan 001 70 12AM 1 12 44 %"),
            (951_827_696, "2000-02-29 12:34:56 Tuesday Tue February Feb 060 00 12PM 29 12 22 %"),
            (1_721_952_000, "2024-07-26 00:00:00 Friday Fri July Jul 208 24 12AM 26 12 55 %"),
            (-1, "1969-12-31 23:59:59 Wednesday Wed December Dec 365 69 11PM 31 11 33 %"),
            (4_107_542_399, "2100-02-28 23:59:59 Sunday Sun February Feb 059 00 11PM 28 11 07 %"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime(all, seconds).as_deref(), Ok(expected));
        }
        assert_eq!(strftime("%F %T", 951_827_696).as_deref(), Ok("2000-02-29 12:34:56"));
        assert_eq!(strftime("%Q", 0), Err("%Q".to_owned()));
        assert_eq!(strftime("50%", 0), Err("%".to_owned()));
    }
}
