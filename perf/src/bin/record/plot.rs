//! The record as a picture: for each case the rates beside its reference (of an open loop, where rates are given, p99),
//! and the CPU that a record takes.

use crate::report::Row;
use std::fmt::Write as _;

/// Bars of all cases, one below the other, as an SVG document.
pub(crate) fn svg(rows: &[Row]) -> String {
    let mut cases: Vec<&str> = rows.iter().map(|row| row.case.as_str()).collect();
    cases.dedup();
    let mut body = String::new();
    let mut y = MARGIN;
    for case in cases {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.case == case).collect();
        y = draw_case(&mut body, &rows, y) + CASE_GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Draws a case from `y` on; answers where it ends.
fn draw_case(out: &mut String, rows: &[&Row], mut y: u32) -> u32 {
    let Some(first) = rows.first() else { return y };
    text(out, MARGIN, y + 14, "bold", &first.case);
    let title = if first.is_open { "p99, us".to_owned() } else { format!("records/s, {} = 1", first.reference) };
    text(out, RATE_X, y + 14, "normal", &title);
    text(out, CPU_X, y + 14, "normal", "CPU of the program, us a record");
    y += TITLE_HEIGHT;
    let most = |field: fn(&Row) -> f64| rows.iter().map(|row| field(row)).fold(1e-9, f64::max);
    let compared: fn(&Row) -> f64 = if first.is_open { |row| row.median.p99_us } else { |row| row.rate_ratio };
    let (compared_most, cpu_most) = (most(compared), most(|row| row.median.program_us));
    for row in rows {
        let label = if row.driver.is_empty() { row.label() } else { format!("{}, {}", row.label(), row.driver) };
        text(out, MARGIN, y + 13, "normal", &label);
        let value = match row.is_open {
            true => format!("{:.0}", row.median.p99_us),
            false => format!("{:.2} ({:.0}/s)", row.rate_ratio, row.median.records_per_s),
        };
        bar(out, (RATE_X, y), compared(row) / compared_most, color(row), &value);
        bar(out, (CPU_X, y), row.median.program_us / cpu_most, color(row), &format!("{:.2}", row.median.program_us));
        y += BAR_STEP;
    }
    y
}

/// A bar that is `part` of the widest, with its value behind it.
fn bar(out: &mut String, (x, y): (u32, u32), part: f64, color: &str, value: &str) {
    let width = (part.clamp(0.0, 1.0) * f64::from(BAR_WIDTH)).round().max(1.0) as u32;
    let _ = writeln!(
        out,
        "<rect x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\" fill=\"{color}\"/>",
        y + 2,
        BAR_STEP - 4
    );
    text(out, x + width + 5, y + 13, "normal", value);
}

fn text(out: &mut String, x: u32, y: u32, weight: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\" fill=\"#222222\">{content}</text>");
}

/// One hue for a program; the driver makes it darker or lighter.
fn color(row: &Row) -> &'static str {
    match (row.program, row.driver.as_str()) {
        ("sluicegate", "io_uring") => "#1f5fa8",
        ("sluicegate", _) => "#6fa3dc",
        ("null-server", "io_uring") => "#5d7a3a",
        ("null-server", _) => "#a3bf7f",
        ("straightforward-gateway", _) => "#c9772b",
        _ => "#8c8c8c",
    }
}

const WIDTH: u32 = 980;
const MARGIN: u32 = 12;
/// Where the bars begin.
const RATE_X: u32 = 280;
const CPU_X: u32 = 660;
/// Of the longest bar; behind it a value has room.
const BAR_WIDTH: u32 = 230;
const BAR_STEP: u32 = 18;
const TITLE_HEIGHT: u32 = 22;
const CASE_GAP: u32 = 16;
