//! The tables and the JSON of rows about executors.

use serde_json::{Value, json};

use super::measure::Measured;
use super::plan::{Plan, WORKERS};
use super::row::{Compared, ONE_CORE, Part, Reach};
use crate::report::{ns, table};
use crate::stats::Spread;

fn ratio(value: f64) -> String {
    match value {
        v if v.is_infinite() || v.is_nan() => "never".to_owned(),
        v if v.abs() < 0.0995 => format!("{v:.3}"),
        v => format!("{v:.2}"),
    }
}

fn spread(spread: Spread, show: fn(f64) -> String) -> String {
    if spread.median.is_infinite() {
        return "never".to_owned();
    }
    format!("{} ({}..{})", show(spread.median), show(spread.min), show(spread.max))
}

fn figure(value: f64) -> String {
    if value.is_infinite() { "never".to_owned() } else { ns(value) }
}

/// What we want to reach, in a few signs.
pub fn goal(reach: Reach) -> String {
    match reach {
        Reach::AtMost(most) => format!("<= {}", ratio(most)),
        Reach::AtLeast(least) => format!(">= {}", ratio(least)),
    }
}

/// Whether it was reached, by the median.
pub fn reached(reach: Reach, judged: Spread) -> bool {
    match reach {
        Reach::AtMost(most) => judged.median <= most,
        Reach::AtLeast(least) => judged.median >= least,
    }
}

/// Whether it was reached, in a word.
pub fn verdict(reach: Reach, judged: Option<Spread>) -> &'static str {
    match judged {
        None => "not run",
        Some(judged) if reached(reach, judged) => "reached",
        Some(_) => "MISSED",
    }
}

/// How the judged column of a part is called.
fn judged_by(part: &Part) -> String {
    match part.compared {
        Compared::To(other) => format!("ratio to {other}"),
        Compared::Faster(other) => format!("speed-up over {other}"),
        Compared::Itself => part.unit.to_owned(),
    }
}

/// The tables of a row, one per part. Goals are shown for `ours`.
pub fn row_tables(measured: &Measured, ours: &str) -> String {
    let mut out = String::new();
    for (at, part) in measured.parts() {
        let compares = !matches!(part.compared, Compared::Itself);
        let mut header = vec![part.name.to_owned()];
        if compares {
            header.push(format!("{} (min..max)", part.unit));
        }
        header.extend([format!("{} (min..max)", judged_by(part)), "goal".to_owned(), String::new()]);
        let line = |name: &'static str| {
            let mut cells = vec![name.to_owned()];
            if compares {
                cells.push(measured.spread(name, at).map_or("-".to_owned(), |own| spread(own, figure)));
            }
            let judged = measured.judged(name, at);
            let value = judged.map_or("-".to_owned(), |judged| format!("**{}**", spread(judged, ratio)));
            cells.push(value.replacen(" (", "** (", 1).replacen(")**", ")", 1));
            if let Some(reach) = part.reach.filter(|_| name == ours) {
                cells.extend([goal(reach), verdict(reach, judged).to_owned()]);
            }
            cells
        };
        let lines: Vec<Vec<String>> = measured.contenders.iter().map(|figures| line(figures.name)).collect();
        if at > 0 {
            out.push('\n');
        }
        out.push_str(&table(&header, &lines));
    }
    out
}

/// One line per part of every row: ours, ours without variables, the best peer, the goal; and how
/// many were missed.
pub fn summary(all: &[Measured], ours: &str, others_of_ours: &[&str]) -> (String, usize) {
    let bare = others_of_ours.first();
    let header = ["row", ours].into_iter().chain(bare.copied()).chain(["best peer", "goal", ""]);
    let header: Vec<String> = header.map(str::to_owned).collect();
    let mut missed = 0;
    let mut lines = Vec::new();
    for measured in all {
        for (at, part) in measured.parts() {
            let judged = |name: &str| measured.judged(name, at);
            let cell = |judged: Option<Spread>| judged.map_or("-".to_owned(), |judged| spread(judged, ratio));
            let peers = measured.contenders.iter().map(|figures| figures.name);
            let reference = match part.compared {
                Compared::To(other) | Compared::Faster(other) => other,
                Compared::Itself => "",
            };
            let peers =
                peers.filter(|name| *name != ours && !others_of_ours.contains(name) && *name != reference);
            let ranked = peers.filter_map(|name| Some((name, judged(name)?.median)));
            let best = match part.compared {
                Compared::Faster(_) => ranked.max_by(|a, b| a.1.total_cmp(&b.1)),
                _ => ranked.min_by(|a, b| a.1.total_cmp(&b.1)),
            };
            let own = judged(ours);
            let verdict = part.reach.map_or("", |reach| verdict(reach, own));
            missed += usize::from(verdict == "MISSED");
            let row = format!("{} {}", measured.row.name, part.name).trim_end().to_owned();
            let mut line = vec![row, cell(own)];
            line.extend(bare.map(|name| cell(judged(name))));
            line.extend([
                best.map_or("-".to_owned(), |(name, median)| format!("{} {name}", ratio(median))),
                part.reach.map_or(String::new(), goal),
                verdict.to_owned(),
            ]);
            lines.push(line);
        }
    }
    (table(&header, &lines), missed)
}

/// One line per part of every row that is a time: the time of ours, and per variant of ours its
/// ratio to that, round by round. Above 1 the variant is slower, so that what it is without pays.
pub fn variants(all: &[Measured], ours: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for figures in all.iter().flat_map(|measured| &measured.contenders) {
        if figures.name != ours && figures.name != ONE_CORE && !names.contains(&figures.name) {
            names.push(figures.name);
        }
    }
    let shorter = |name: &&str| name.strip_prefix("heirloom-").unwrap_or(name).to_owned();
    let header: Vec<String> =
        ["row".to_owned(), format!("{ours}: ns")].into_iter().chain(names.iter().map(shorter)).collect();
    let mut lines = Vec::new();
    for measured in all {
        for (at, part) in measured.parts() {
            let Some(own) = measured.rounds_of(ours, at) else { continue };
            if matches!(part.compared, Compared::Itself) {
                continue;
            }
            let cell = |name: &&str| {
                let rounds = measured.rounds_of(name, at);
                let over = rounds.and_then(|rounds| Spread::of_ratios(&rounds, &own));
                over.map_or("-".to_owned(), |over| spread(over, ratio))
            };
            let own = Spread::of(own.iter().copied()).map_or("-".to_owned(), |own| spread(own, figure));
            let row = format!("{} {}", measured.row.name, part.name).trim_end().to_owned();
            lines.push([row, own].into_iter().chain(names.iter().map(cell)).collect());
        }
    }
    table(&header, &lines)
}

/// Everything in one JSON value.
pub fn json(plan: &Plan, all: &[Measured], ours: &str) -> Value {
    json!({
        "rounds": plan.rounds,
        "sample_ns": plan.sample.as_nanos() as u64,
        "workers": WORKERS,
        "ours": ours,
        "rows": rows(all, ours),
    })
}

/// Rows in JSON, with every round of all contenders. What never finished is null.
pub fn rows(all: &[Measured], ours: &str) -> Vec<Value> {
    let of_spread = |spread: Option<Spread>| match spread {
        Some(spread) if spread.median.is_finite() => {
            json!({ "median": spread.median, "min": spread.min, "max": spread.max })
        }
        _ => Value::Null,
    };
    let part = |measured: &Measured, at: usize, part: &Part| {
        let contender = |name: &str| {
            json!({
                "name": name,
                "figure": of_spread(measured.spread(name, at)),
                "judged": of_spread(measured.judged(name, at)),
                "rounds": measured.rounds_of(name, at),
            })
        };
        let names = measured.contenders.iter().map(|figures| figures.name);
        json!({
            "part": part.name,
            "unit": part.unit,
            "judged_by": judged_by(part),
            "goal": part.reach.map(goal),
            "verdict": part.reach.map(|reach| verdict(reach, measured.judged(ours, at))),
            "contenders": names.map(contender).collect::<Vec<_>>(),
        })
    };
    let row = |measured: &Measured| {
        let parts: Vec<Value> = measured.parts().map(|(at, of)| part(measured, at, of)).collect();
        json!({ "row": measured.row.name, "question": measured.row.question, "parts": parts })
    };
    all.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::measure::Figures;
    use crate::executor::plan::NEVER;
    use crate::executor::row::{REFERENCE, Row};

    const PART: Part =
        Part { name: "", unit: "ns", compared: Compared::To(REFERENCE), reach: Some(Reach::AtMost(0.5)) };

    fn measured() -> Measured {
        let figures =
            |name, figure: f64| Figures { name, rounds: [figure, 2.0 * figure].map(|f| vec![f]).into() };
        Measured {
            row: Row { name: "row", question: "?", parts: &[PART], samples: 1 },
            contenders: vec![figures("ours", 40.0), figures(REFERENCE, 100.0), figures("stuck", NEVER)],
        }
    }

    #[test]
    fn a_table_shows_ratios_the_goal_and_who_never_finished() {
        let text = row_tables(&measured(), "ours");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("**0.40** (0.40..0.40)") && lines[2].contains("reached"), "{text}");
        assert!(lines[4].contains("never"), "{text}");
    }

    #[test]
    fn a_summary_names_the_best_peer_and_counts_what_was_missed() {
        let (text, missed) = summary(&[measured()], "stuck", &[]);
        assert!(text.contains("0.40 ours"), "{text}");
        assert_eq!(missed, 1);
    }

    #[test]
    fn variants_are_compared_with_ours_round_by_round() {
        let text = variants(&[measured()], "ours");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("| 2.50 (2.50..2.50) |") && lines[2].contains("never"), "{text}");
        assert_eq!(lines.len(), 3, "{text}");
    }

    #[test]
    fn json_has_null_for_never() {
        let value = json(&Plan::SMOKE, &[measured()], "ours");
        let contenders = &value["rows"][0]["parts"][0]["contenders"];
        assert_eq!(contenders[2]["judged"], Value::Null);
        assert_eq!(contenders[0]["rounds"], json!([40.0, 80.0]));
    }
}
