//! Shows one program twice, on tokio and on Heirloom: a crawler with its server, which uses what
//! most programs on tokio use. Both must find the same pages. `diff tokio.rs heirloom.rs` is the
//! work of a port; the guide's chapter `port` goes through it, line by line.

#[path = "heirloom.rs"]
mod on_heirloom;
#[path = "tokio.rs"]
mod on_tokio;
mod site;

use std::collections::BTreeSet;
use std::io;

use site::Report;

/// Each page was asked for and taken apart on behalf of its own request, and each failure is that
/// of a page that fails.
fn check(name: &str, report: &Report) {
    for (number, page) in &report.pages {
        assert_eq!(page.title, format!("page {number}"), "{name}");
        assert_eq!((page.asked_by, page.parsed_by), (*number, *number), "{name}");
    }
    assert_eq!(report.counted, report.pages.len(), "{name}: the meter has seen each page");
    println!("{name}: {} pages, {} failures", report.pages.len(), report.log.len());
}

fn main() -> io::Result<()> {
    let everything = usize::MAX;
    let (tokio, heirloom) = (on_tokio::run(everything)?, on_heirloom::run(everything)?);
    check("tokio", &tokio);
    check("heirloom", &heirloom);
    assert_eq!(tokio.pages, heirloom.pages);
    assert_eq!(tokio.failed, heirloom.failed);

    let failing = BTreeSet::from([site::SILENT, site::BROKEN]);
    let readable: BTreeSet<u32> = (0..site::PAGES).filter(|number| !failing.contains(number)).collect();
    for (name, report) in [("tokio", &tokio), ("heirloom", &heirloom)] {
        assert_eq!(report.failed, failing, "{name}");
        assert!(report.pages.keys().eq(&readable), "{name}: every page that can be read was read");
        for number in readable.iter().filter(|number| site::is_flaky(**number)) {
            let line = format!("request {number}, attempt 1: status 503");
            assert!(report.log.contains(&line), "{name}: {line}");
        }
        let silent = format!("request {}, attempt 3: no answer in time", site::SILENT);
        assert!(report.log.contains(&silent), "{name}: {silent}");
    }

    // Stopped in the middle: what was read by then is right.
    for (name, report) in [("tokio", on_tokio::run(5)?), ("heirloom", on_heirloom::run(5)?)] {
        check(name, &report);
        assert!((5..readable.len()).contains(&report.pages.len()), "{name}: {:?}", report.pages.keys());
    }
    Ok(())
}
