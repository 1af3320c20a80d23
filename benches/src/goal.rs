//! Goals: a ratio that was promised, and whether it was kept.

use crate::harness::Measured;
use crate::stats::Spread;

/// How large a ratio may be.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// The median may be this at most.
    AtMost(f64),
    /// The median must be less.
    Below(f64),
    /// The lower quartile may be this at most: for two things that should cost the same, where the
    /// median of equal things lies above 1 in half of the runs.
    Within(f64),
    /// The median may be this at most; or the lower quartile as large as the median ratio of these
    /// two contenders of the same case.
    AtMostOrAs(f64, &'static str, &'static str),
}

/// A promise about the ratio of two contenders of one case.
#[derive(Clone, Debug)]
pub struct Goal {
    /// The promise in words.
    pub claim: String,
    /// The row it is about.
    pub row: &'static str,
    /// The case it is about.
    pub case: String,
    /// The contender whose time is divided ...
    pub over: &'static str,
    /// ... by the time of this one.
    pub under: &'static str,
    /// What is promised.
    pub limit: Limit,
}

/// What came of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Kept.
    Ok,
    /// Not kept.
    Missed,
    /// Its row or case was not measured.
    NotRun,
}

impl Verdict {
    /// `ok`, `MISSED` or `not run`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Missed => "MISSED",
            Verdict::NotRun => "not run",
        }
    }
}

/// A goal with what was measured.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The goal.
    pub goal: Goal,
    /// The ratio, if its case was measured.
    pub ratio: Option<Spread>,
    /// The limit in words, with the peer's own ratio where the limit depends on it.
    pub limit: String,
    /// Whether it was kept.
    pub verdict: Verdict,
}

impl Goal {
    /// Looks the goal's case up in `measured` and judges it.
    pub fn judge(&self, measured: &[Measured]) -> Judged {
        let case = measured.iter().find(|case| case.row == self.row && case.case == self.case);
        let ratio = case.and_then(|case| case.ratio(self.over, self.under));
        let other = match self.limit {
            Limit::AtMostOrAs(_, over, under) => case.and_then(|case| case.ratio(over, under)),
            _ => None,
        };
        let limit = match (self.limit, other) {
            (Limit::AtMost(most), _) => format!("<= {most:.2}"),
            (Limit::Below(bound), _) => format!("< {bound:.2}"),
            (Limit::Within(most), _) => format!("<= {most:.2} (lower quartile)"),
            (Limit::AtMostOrAs(most, over, under), Some(other)) => {
                format!("<= {most:.2} or {over} / {under} = {:.2}", other.median)
            }
            (Limit::AtMostOrAs(most, over, under), None) => format!("<= {most:.2} or {over} / {under}"),
        };
        let verdict = match ratio {
            None => Verdict::NotRun,
            Some(ratio) => {
                let kept = match self.limit {
                    Limit::AtMost(most) => ratio.median <= most,
                    Limit::Below(bound) => ratio.median < bound,
                    Limit::Within(most) => ratio.lower <= most,
                    Limit::AtMostOrAs(most, ..) => {
                        ratio.median <= most || other.is_some_and(|other| ratio.lower <= other.median)
                    }
                };
                if kept { Verdict::Ok } else { Verdict::Missed }
            }
        };
        Judged { goal: self.clone(), ratio, limit, verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(limit: Limit) -> Verdict {
        let contenders = vec![
            ("a".to_owned(), vec![1.0, 1.1, 1.2]),
            ("b".to_owned(), vec![1.0; 3]),
            ("c".to_owned(), vec![3.0; 3]),
        ];
        let measured = [Measured { row: "row", case: "case".into(), contenders }];
        let (claim, case) = (String::new(), "case".into());
        Goal { claim, row: "row", case, over: "a", under: "b", limit }.judge(&measured).verdict
    }

    #[test]
    fn limits_judge_the_median_or_the_quartile() {
        assert_eq!(judge(Limit::AtMost(1.1)), Verdict::Ok);
        assert_eq!(judge(Limit::Below(1.1)), Verdict::Missed);
        assert_eq!(judge(Limit::AtMost(1.0)), Verdict::Missed);
        assert_eq!(judge(Limit::Within(1.0)), Verdict::Ok);
        assert_eq!(judge(Limit::AtMostOrAs(1.0, "c", "b")), Verdict::Ok);
        assert_eq!(judge(Limit::AtMostOrAs(1.0, "b", "c")), Verdict::Missed);
    }

    #[test]
    fn what_was_not_measured_was_not_run() {
        let goal = Goal {
            claim: String::new(),
            row: "row",
            case: "case".into(),
            over: "a",
            under: "b",
            limit: Limit::AtMost(1.0),
        };
        assert_eq!(goal.judge(&[]).verdict, Verdict::NotRun);
    }
}
