//! Calendar fields, UTC, of seconds since the epoch.

const DAY_SECONDS: i64 = 86_400;

/// Where Go's `time` package begins to count: 1 March of the year -292277022400, in seconds relative to the epoch.
///
/// Seconds outside the 64-bit range around it wrap. Only values such as NaN and infinity get there, which Go (on amd64)
/// turns into the smallest integer.
const GO_TIME_ORIGIN: i128 = -((292_277_022_400_i128 + 1970) * 146_097 / 400 - 59) * DAY_SECONDS as i128;

/// Seconds since the epoch as Go's `time.Unix(int64(value), 0)` understands them.
fn seconds(value: f64) -> i128 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let whole = if (-LIMIT..LIMIT).contains(&value) { value as i64 } else { i64::MIN };
    (i128::from(whole) - GO_TIME_ORIGIN).rem_euclid(1 << 64) + GO_TIME_ORIGIN
}

fn days(value: f64) -> i64 {
    seconds(value).div_euclid(i128::from(DAY_SECONDS)) as i64
}

fn second_of_day(value: f64) -> i64 {
    seconds(value).rem_euclid(i128::from(DAY_SECONDS)) as i64
}

/// Year, month (1-12) and day of month (1-31) in the proleptic Gregorian calendar.
///
/// Counts years from March, so that the leap day is the last of its year; 400 years have 146097 days.
fn civil(days_since_epoch: i64) -> (i64, i64, i64) {
    let since_march_0000 = days_since_epoch + 719_468;
    let era = since_march_0000.div_euclid(146_097);
    let day_of_era = since_march_0000.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(super) fn day_of_month(value: f64) -> f64 {
    civil(days(value)).2 as f64
}

/// 0 is Sunday.
pub(super) fn day_of_week(value: f64) -> f64 {
    (days(value) + 4).rem_euclid(7) as f64
}

/// 1 to 366.
pub(super) fn day_of_year(value: f64) -> f64 {
    const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let (year, month, day) = civil(days(value));
    (BEFORE_MONTH[month as usize - 1] + day + i64::from(month > 2 && is_leap(year))) as f64
}

pub(super) fn days_in_month(value: f64) -> f64 {
    match civil(days(value)) {
        (year, 2, _) if is_leap(year) => 29.0,
        (_, 2, _) => 28.0,
        (_, 4 | 6 | 9 | 11, _) => 30.0,
        _ => 31.0,
    }
}

pub(super) fn hour(value: f64) -> f64 {
    (second_of_day(value) / 3600) as f64
}

pub(super) fn minute(value: f64) -> f64 {
    (second_of_day(value) % 3600 / 60) as f64
}

pub(super) fn month(value: f64) -> f64 {
    civil(days(value)).1 as f64
}

pub(super) fn year(value: f64) -> f64 {
    civil(days(value)).0 as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: f64) -> [f64; 8] {
        [
            year(value),
            month(value),
            day_of_month(value),
            hour(value),
            minute(value),
            day_of_week(value),
            day_of_year(value),
            days_in_month(value),
        ]
    }

    #[test]
    fn known_dates() {
        assert_eq!(fields(0.0), [1970.0, 1.0, 1.0, 0.0, 0.0, 4.0, 1.0, 31.0]);
        // 2024-02-29 12:34:56, a Thursday.
        assert_eq!(fields(1_709_210_096.9), [2024.0, 2.0, 29.0, 12.0, 34.0, 4.0, 60.0, 29.0]);
        // 1969-12-31 23:59:59, a Wednesday.
        assert_eq!(fields(-1.0), [1969.0, 12.0, 31.0, 23.0, 59.0, 3.0, 365.0, 31.0]);
        assert_eq!(days_in_month(951_782_400.0), 29.0);
        assert_eq!(days_in_month(-2_203_977_600.0), 28.0);
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let mut previous = civil(-200 * 365);
        for day in -200 * 365 + 1..146_097 {
            let next = civil(day);
            let expected = match previous {
                (year, 12, 31) => (year + 1, 1, 1),
                (year, month, day)
                    if day as f64 == days_in_month((f64::from(0) + ((next_start(year, month)) as f64)) * 86_400.0) =>
                {
                    (year, month + 1, 1)
                }
                (year, month, day) => (year, month, day + 1),
            };
            assert_eq!(next, expected);
            previous = next;
        }
    }

    /// Days from the epoch to the first of a month, by counting.
    fn next_start(year: i64, month: i64) -> i64 {
        let leap_days = |year: i64| (year - 1).div_euclid(4) - (year - 1).div_euclid(100) + (year - 1).div_euclid(400);
        let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        (year - 1970) * 365 + leap_days(year) - leap_days(1970) + lengths[..month as usize - 1].iter().sum::<i64>()
    }

    #[test]
    fn nan_and_infinity_are_some_date() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert_eq!(fields(value), fields(-9.3e18));
        }
    }
}
