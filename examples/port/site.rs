//! The site that both crawlers read: which page has which text, and when. It knows no executor.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub(crate) const PAGES: u32 = 60;
/// A page whose connection is accepted and never answered.
pub(crate) const SILENT: u32 = 33;
/// A page that is an error each time.
pub(crate) const BROKEN: u32 = 41;

/// Pages that are an error when they are asked for first.
pub(crate) fn is_flaky(number: u32) -> bool {
    number % 7 == 3
}

/// What the server answers to a request with this head: HTTP/1.0, or nothing. `asked` counts the
/// requests for each page.
pub(crate) fn answer(head: &str, asked: &mut BTreeMap<u32, u32>) -> Option<String> {
    let number = number_after(head, "GET /")?;
    let request = number_after(head, "x-request-id: ")?;
    let times = asked.entry(number).or_default();
    *times += 1;
    match number {
        SILENT => None,
        BROKEN => Some("HTTP/1.0 500 Internal Server Error\r\n\r\n".to_owned()),
        _ if is_flaky(number) && *times == 1 => Some("HTTP/1.0 503 Service Unavailable\r\n\r\n".to_owned()),
        _ => {
            let links = linked(number).map(|link| format!("<a href=\"/{link}\">")).collect::<String>();
            Some(format!("HTTP/1.0 200 OK\r\n\r\n<title>page {number}</title><i asked-by={request}>{links}"))
        }
    }
}

/// The body of an answer whose status is 200.
pub(crate) fn body(answer: &str) -> io::Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        status => Err(io::Error::other(format!("status {}", status.unwrap_or("missing")))),
    }
}

/// Takes a page's text apart. `request` is what the code that calls this believes to work for.
pub(crate) fn parse(text: &str, request: u32) -> Page {
    Page {
        title: text.split(['>', '<']).nth(2).unwrap_or_default().to_owned(),
        links: text.split("href=\"/").skip(1).filter_map(leading_number).collect(),
        asked_by: number_after(text, "asked-by=").unwrap_or(u32::MAX),
        parsed_by: request,
    }
}

/// A page as a crawler has read it.
#[derive(Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) links: Vec<u32>,
    /// The request that the server was asked by.
    pub(crate) asked_by: u32,
    /// The request that the parser worked for, on a thread that blocks.
    pub(crate) parsed_by: u32,
}

/// What a crawl has found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) pages: BTreeMap<u32, Page>,
    pub(crate) failed: BTreeSet<u32>,
    /// Pages, as the meter has counted them.
    pub(crate) counted: usize,
    pub(crate) log: Vec<String>,
}

fn linked(number: u32) -> impl Iterator<Item = u32> {
    [number * 2 + 1, number * 2 + 2, number + 5].into_iter().filter(|link| *link < PAGES)
}

fn number_after(text: &str, before: &str) -> Option<u32> {
    leading_number(text.split_once(before)?.1)
}

fn leading_number(text: &str) -> Option<u32> {
    text.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok()
}
