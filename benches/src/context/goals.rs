//! What the context promised about its costs.

use super::read::{GET, UNSET};
use super::{ARC, IMBL, OTEL, OURS, OURS_TYPED, TOKIO, carry, set, threads, variables, wire};
use crate::goal::{Goal, Limit};

/// Every goal that the program `context` checks.
pub fn goals() -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut goal = |claim: &str, row, case: String, over, under, limit| {
        goals.push(Goal { claim: claim.to_owned(), row, case, over, under, limit });
    };

    for n in [1, 8, 32, 100, 1000] {
        let claim = "a swap in and out costs two bare swaps at most";
        goal(claim, "swap", variables(n), OURS, carry::BARE_SWAP, Limit::AtMost(2.0));
    }
    for n in [1, 2, 4, 8] {
        let claim = "a hit costs no more than opentelemetry's typed get";
        goal(claim, "read-typed", variables(n), OURS_TYPED, OTEL, Limit::AtMost(1.0));
    }
    for n in [1, 8, 32] {
        let claim = "a read of a bound variable costs what a task local's does";
        goal(claim, "read-bound", variables(n), OURS, TOKIO, Limit::AtMost(1.1));
        let claim = "`with_var` around what is ready costs 0.4 of opentelemetry's attach";
        goal(claim, "with-var-ready", variables(n), OURS_TYPED, OTEL, Limit::AtMost(0.4));
    }
    let claim = "a read among many costs at most three reads among 1";
    goal(claim, "read-growth", variables(1000), "heirloom at n", "heirloom at 1", Limit::AtMost(3.0));
    for n in [1, 8, 32, 100, 1000] {
        let claim = "an unset variable costs no more than a hit";
        goal(claim, "read-unset", variables(n), UNSET, OURS, Limit::Within(1.0));
    }
    for n in [1, 8] {
        let claim = "a read costs a fifth of a reference count";
        goal(claim, "read", variables(n), OURS, ARC, Limit::AtMost(0.2));
        let claim = "`get` of a number costs a fifth of a reference count";
        goal(claim, "read", variables(n), GET, ARC, Limit::AtMost(0.2));
    }

    for n in set::SIZES {
        let claim = "a set is cheaper than opentelemetry's";
        goal(claim, "set-typed", variables(n), OURS_TYPED, OTEL, Limit::Below(1.0));
    }
    for n in set::SIZES {
        let claim = "a set is cheaper than imbl's";
        goal(claim, "set", variables(n), OURS, IMBL, Limit::Below(1.0));
    }
    for n in set::SIZES {
        let claim = "so it is into a context built by `with`";
        goal(claim, "set", variables(n), set::OURS_DERIVED, IMBL, Limit::Below(1.0));
    }
    for (n, most) in [(1, 0.45), (8, 0.30), (32, 0.20)] {
        let claim = "a set is much cheaper than imbl's";
        goal(claim, "set", variables(n), OURS, IMBL, Limit::AtMost(most));
    }
    // log(1000) / log(100) = 1.5, log(10,000) / log(100) = 2.
    for (n, most) in [(1000, 1.5), (10_000, 2.0)] {
        let claim = "a set grows as the logarithm, or as imbl's does";
        let limit = Limit::AtMostOrAs(most, "imbl at n", "imbl at 100");
        goal(claim, "set-growth", format!("{n} over 100"), "heirloom at n", "heirloom at 100", limit);
    }

    for n in [1, 8, 100, 1000] {
        let claim = "a snapshot costs no more than a reference count";
        goal(claim, "snapshot", variables(n), OURS, ARC, Limit::AtMost(1.0));
        let claim = "a fork costs no more than a reference count";
        goal(claim, "fork", variables(n), OURS, ARC, Limit::AtMost(1.0));
    }
    for n in [1, 8, 100, 1000] {
        let claim = "many forks of one parent cost 0.6 of a reference count each";
        goal(claim, "fork-many", variables(n), OURS, ARC, Limit::AtMost(0.6));
    }
    for spawners in [1, 2] {
        let claim = "so they do on threads that fork from one parent at once";
        goal(claim, "fork-threads", threads::label(spawners, false), OURS, ARC, Limit::AtMost(0.6));
    }
    for case in [wire::CASE, wire::WITH_TRACE] {
        let claim = "the wire costs less than opentelemetry's propagators";
        goal(claim, "wire", case.to_owned(), OURS, OTEL, Limit::Below(1.0));
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_is_about_a_case_that_there_is() {
        let rows = super::super::rows();
        for goal in goals() {
            let row = rows.iter().find(|row| row.name == goal.row).expect(goal.row);
            let debug = format!("{:?}", row.cases);
            assert!(debug.contains(&format!("{:?}", goal.case)), "{} has no case {}", goal.row, goal.case);
        }
    }
}
