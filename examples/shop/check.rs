//! The checks: whether every place that an order came by has seen its request and no more time than
//! the caller had, and whether log, database and traces tell the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;

use crate::buyer::Answer;
use crate::order::{Kind, Look, item_of, price_of, request_of};

/// All that a run has left behind.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) answers: Vec<(u64, Answer)>,
    pub(crate) rows: Vec<(u64, Option<String>)>,
    pub(crate) looks: Vec<Look>,
    pub(crate) log: String,
    pub(crate) spans: Vec<SpanData>,
    /// Connections that were busy to the end of the drain, with what no client waits for any more.
    pub(crate) cut: usize,
}

/// Each place, and where it is called from: there the deadline is no earlier.
const CALLERS: [(&str, &str); 9] = [
    ("shop", "buyer"),
    ("cache", "shop"),
    ("to prices", "shop"),
    ("prices", "to prices"),
    ("from prices", "to prices"),
    ("to stock", "shop"),
    ("stock", "to stock"),
    ("from stock", "to stock"),
    ("database", "shop"),
];

impl Seen {
    /// What is wrong, a sentence each.
    pub(crate) fn violations(&self) -> Vec<String> {
        let parts = [self.answers(), self.rows(), self.looks(), self.lines(), self.traces()];
        let cut = (self.cut > 0).then(|| format!("{} connections were cut", self.cut));
        parts.into_iter().flatten().chain(cut).collect()
    }

    pub(crate) fn count(&self, is: impl Fn(&Answer) -> bool) -> usize {
        self.answers.iter().filter(|(_, answer)| is(answer)).count()
    }

    fn sold(&self) -> BTreeSet<u64> {
        let sold = self.answers.iter().filter(|(_, answer)| matches!(answer, Answer::Sold(_)));
        sold.map(|&(order, _)| order).collect()
    }

    fn answers(&self) -> Vec<String> {
        let wrong = self.answers.iter().filter(|(order, answer)| {
            let right = match Kind::of(*order) {
                Kind::Plain | Kind::Flaky | Kind::Slow => {
                    let price = price_of(item_of(*order));
                    Answer::Sold(format!("order {order}: price {price}, left {order}"))
                }
                Kind::SoldOut => Answer::SoldOut,
                Kind::Hurried => Answer::OutOfTime,
                Kind::GivenUp => Answer::GivenUp,
            };
            *answer != right
        });
        wrong.map(|(order, answer)| format!("order {order} has ended with {answer:?}")).collect()
    }

    /// In the database is each order that was sold, and no other.
    fn rows(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (order, request) in &self.rows {
            if request.as_ref() != Some(&request_of(*order)) {
                wrong.push(format!("in the database, order {order} is of the request {request:?}"));
            }
        }
        let rows: BTreeSet<u64> = self.rows.iter().map(|&(order, _)| order).collect();
        if rows != self.sold() {
            wrong.push(format!("in the database are {rows:?}"));
        }
        wrong
    }

    fn looks(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // The most time left at a place, for an order.
        let mut most: HashMap<(u64, &str), Duration> = HashMap::new();
        for look in &self.looks {
            let Look { place, order, request, left } = look;
            if request.as_ref() != Some(&request_of(*order)) {
                wrong.push(format!("{place}: order {order} is of the request {request:?}"));
            }
            let Some(left) = *left else {
                wrong.push(format!("{place}: order {order} has no deadline"));
                continue;
            };
            if let Some((_, caller)) = CALLERS.iter().find(|(called, _)| called == place) {
                let given = most.get(&(*order, *caller));
                if given.is_none_or(|given| left > *given) {
                    wrong.push(format!("{place}: order {order} has {left:?} left, {caller} had {given:?}"));
                }
            }
            let entry = most.entry((*order, *place)).or_default();
            *entry = left.max(*entry);
        }
        for order in self.sold() {
            let was_cached = Kind::of(order) == Kind::Plain;
            for (place, _) in CALLERS {
                let may_lack = if was_cached { place.ends_with("prices") } else { place == "cache" };
                if !may_lack && !most.contains_key(&(order, place)) {
                    wrong.push(format!("{place}: order {order} has not been there"));
                }
            }
        }
        wrong
    }

    /// Whatever a line says of an order and of a request, its own fields and those of its spans:
    /// the one goes with the other.
    fn lines(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut told = BTreeSet::new();
        for line in self.log.lines() {
            let requests: BTreeSet<&str> = values(line, "REQUEST=").collect();
            let orders: BTreeSet<&str> = values(line, "order=").collect();
            let of_orders: BTreeSet<String> = orders.iter().map(|order| format!("r{order}")).collect();
            let is_of_one =
                requests.len() <= 1 && requests.iter().all(|request| of_orders.contains(*request));
            if !is_of_one || requests.len() != orders.len() {
                wrong.push(format!("a line of the log: {line}"));
            }
            told.extend(of_orders);
        }
        let looked: BTreeSet<_> = self.looks.iter().map(|look| request_of(look.order)).collect();
        wrong.extend(looked.difference(&told).map(|request| format!("{request} is not in the log")));
        wrong
    }

    /// A trace is a tree, begun by the buyer, of one request.
    fn traces(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut traces: BTreeMap<String, Vec<&SpanData>> = BTreeMap::new();
        for span in &self.spans {
            traces.entry(span.span_context.trace_id().to_string()).or_default().push(span);
        }
        // The services that each request was in.
        let mut services: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (id, spans) in &traces {
            let known: BTreeSet<_> =
                spans.iter().map(|span| span.span_context.span_id().to_string()).collect();
            let is_root = |span: &&&SpanData| !known.contains(&span.parent_span_id.to_string());
            let roots: Vec<_> = spans.iter().filter(is_root).collect();
            let of: BTreeSet<_> = spans.iter().map(|span| attribute(span, "REQUEST")).collect();
            let is_tree = roots.len() == 1 && roots[0].name == "buy" && known.len() == spans.len();
            if !is_tree || of.len() != 1 {
                let names: Vec<_> = roots.iter().map(|span| &span.name).collect();
                wrong.push(format!("trace {id} begins with {names:?} and is of {of:?}"));
            }
            for span in spans {
                let request = attribute(span, "REQUEST").unwrap_or_default();
                if attribute(span, "order").is_some_and(|order| request != format!("r{order}")) {
                    wrong.push(format!("trace {id}: a span of {:?} is of {request}", span.attributes));
                }
                services.entry(request).or_default().insert(&span.name);
            }
        }
        let ordered: BTreeSet<_> = self.answers.iter().map(|&(order, _)| request_of(order)).collect();
        if !services.keys().eq(&ordered) || traces.len() != ordered.len() {
            wrong.push(format!("{} traces for {} requests", traces.len(), ordered.len()));
        }
        for request in self.sold().into_iter().map(request_of) {
            let services = services.get(&request).cloned().unwrap_or_default();
            if !["shop", "to stock", "stock"].iter().all(|name| services.contains(name)) {
                wrong.push(format!("the trace of {request} has only {services:?}"));
            }
        }
        wrong
    }
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    attribute.map(|attribute| attribute.value.to_string())
}

/// What stands behind `name` in a line, each time.
fn values<'a>(line: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let ends = |c: char| !c.is_alphanumeric();
    line.split(name).skip(1).map(move |rest| rest.split(ends).next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
