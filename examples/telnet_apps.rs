//! Shows several applications in one process, each serving several terminals at once, all of them
//! built on library code that prints and asks *somewhere*: no function takes a terminal as an
//! argument, and nothing ever lands on a stranger's screen.
//!
//! The terminals are in memory, so that the program can look at the screens in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{StreamExt, lock};
use heirloom::{Context, JoinHandle, TaskGroup, context_var, sleep, spawn, spawn_blocking, yield_now};

// ---- the library: a terminal toolkit, as it could come from elsewhere ----

/// A connection: what its user types, and what they see.
#[derive(Clone)]
struct Terminal {
    keys: Arc<lock::Mutex<UnboundedReceiver<String>>>,
    screen: Arc<Mutex<Vec<String>>>,
}

context_var! {
    /// Whose application this is. Inherited by whatever the application starts.
    static TERMINAL: Terminal;
}

/// Prints a line where the application that calls it is seen.
fn print(line: impl Into<String>) {
    TERMINAL.with(|terminal| match terminal {
        Some(terminal) => terminal.screen.lock().unwrap().push(line.into()),
        None => println!("(console) {}", line.into()),
    });
}

/// Prints a question and waits for the next line that is typed; `None` when the user has hung up.
async fn ask(question: &str) -> Option<String> {
    print(question);
    let terminal = TERMINAL.get()?;
    let answer = terminal.keys.lock().await.next().await?;
    print(format!("> {answer}"));
    Some(answer)
}

/// Shows a spinner while the future runs: in a task of its own, which finds the terminal by itself.
async fn with_spinner<F: Future>(what: &str, work: F) -> F::Output {
    let spinner: JoinHandle<()> = spawn(async {
        loop {
            sleep(Duration::from_secs(1)).await;
            print(".");
        }
    });
    print(format!("{what} ..."));
    let output = work.await;
    // Dropping the handle cancels the task.
    drop(spinner);
    print(format!("{what}: done"));
    output
}

/// Work for a thread that may block. It can print like all others.
async fn compute(what: &'static str, work: impl FnOnce() -> u64 + Send + 'static) -> u64 {
    let result = spawn_blocking(move || {
        let result = work();
        print(format!("[{what} = {result}]"));
        result
    });
    result.await.expect("it does not panic")
}

/// A callback that others call, later, on a thread of theirs.
type Callback = Box<dyn FnOnce(&str) + Send>;

/// Made here, it prints here, wherever it is called.
fn printing_callback() -> Callback {
    let mut context = Some(Context::current());
    Box::new(move |news| context.take().expect("called once").run(|| print(format!("news: {news}"))))
}

// ---- three applications, which know the library and nothing else ----

async fn calculator() {
    while let Some(line) = ask("add what?").await {
        let numbers: Vec<u64> = line.split('+').filter_map(|number| number.trim().parse().ok()).collect();
        let sum = with_spinner("adding", compute("sum", move || numbers.iter().sum())).await;
        print(format!("{line} makes {sum}"));
    }
    print("bye");
}

static GUESTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

async fn guestbook() {
    let Some(name) = ask("who are you?").await else { return };
    GUESTS.lock().unwrap().push(name.clone());
    yield_now().await;
    while let Some(word) = ask(&format!("a word, {name}?")).await {
        print(format!("{name} was here: {word}"));
    }
    print(format!("come again, {name}"));
}

static SUBSCRIBERS: Mutex<Vec<Callback>> = Mutex::new(Vec::new());

async fn newsreader() {
    SUBSCRIBERS.lock().unwrap().push(printing_callback());
    // Several parts of one application at once, with the same screen.
    let parts = TaskGroup::<()>::scope(async |group| {
        for part in ["weather", "sports"] {
            group.spawn(async move {
                yield_now().await;
                print(format!("{part}: nothing new"));
                Ok(())
            });
        }
        Ok(())
    });
    parts.await.expect("no part fails");
    while ask("more?").await.is_some() {}
    print("end of the paper");
}

// ---- the server ----

/// The user's side of a connection.
struct User {
    app: &'static str,
    types: &'static [&'static str],
    keyboard: UnboundedSender<String>,
    screen: Arc<Mutex<Vec<String>>>,
}

/// Starts an application for a new connection. This is the one place where a terminal is named.
fn serve(app: &'static str, types: &'static [&'static str]) -> (User, JoinHandle<()>) {
    let (keyboard, keys) = unbounded();
    let terminal = Terminal { keys: Arc::new(lock::Mutex::new(keys)), screen: Arc::default() };
    let user = User { app, types, keyboard, screen: Arc::clone(&terminal.screen) };
    let _for_the_spawn = TERMINAL.bind(terminal);
    let application = match app {
        "calculator" => spawn(calculator()),
        "guestbook" => spawn(guestbook()),
        _ => spawn(newsreader()),
    };
    (user, application)
}

#[heirloom::main]
pub(crate) async fn main() {
    let connections: [(&str, &[&str]); 6] = [
        ("calculator", &["1 + 2", "40 + 2"]),
        ("guestbook", &["Ada", "hello"]),
        ("newsreader", &["yes"]),
        ("guestbook", &["Grace", "hi", "bye"]),
        ("calculator", &["3 + 4"]),
        ("newsreader", &[]),
    ];
    let (users, applications): (Vec<_>, Vec<_>) =
        connections.into_iter().map(|(app, types)| serve(app, types)).unzip();
    print(format!("{} terminals are connected", users.len()));
    assert!(!TERMINAL.is_set(), "the server has none");

    // Every user types a line in turn, so that all applications are busy at the same time.
    for turn in 0..3 {
        for user in &users {
            if let Some(line) = user.types.get(turn) {
                user.keyboard.unbounded_send(line.to_string()).expect("the application listens");
            }
        }
        yield_now().await;
    }
    // A function that knows nothing of terminals.
    while SUBSCRIBERS.lock().unwrap().len() < 2 {
        yield_now().await;
    }
    let callbacks = std::mem::take(&mut *SUBSCRIBERS.lock().unwrap());
    std::thread::spawn(move || callbacks.into_iter().for_each(|callback| callback("it works")))
        .join()
        .expect("it does not panic");

    let mut screens = BTreeMap::new();
    for (number, (user, application)) in users.into_iter().zip(applications).enumerate() {
        drop(user.keyboard); // hangs up
        application.await.expect("no application panics");
        screens.insert(number, (user.app, std::mem::take(&mut *user.screen.lock().unwrap())));
    }
    for (number, (app, screen)) in &screens {
        println!("\nterminal {number}, {app}");
        screen.iter().for_each(|line| println!("  | {line}"));
    }

    let screen = |number| screens[&number].1.join("\n");
    let count = |number, text: &str| screen(number).matches(text).count();
    assert!(screen(0).contains("40 + 2 makes 42") && screen(4).contains("3 + 4 makes 7"));
    assert_eq!((count(0, "[sum ="), count(4, "[sum =")), (2, 1), "printed by the blocking pool");
    assert_eq!((count(1, "Ada"), count(3, "Ada")), (5, 0), "every line where it belongs");
    assert_eq!((count(3, "Grace"), count(1, "Grace")), (7, 0), "every line where it belongs");
    for reader in [2, 5] {
        assert_eq!(count(reader, "nothing new"), 2, "printed by tasks of a group");
        assert_eq!(count(reader, "news: it works"), 1, "printed by a foreign thread");
    }
    let apps = ["add what?", "who are you?", "more?"];
    for (number, (app, _)) in &screens {
        let mine = apps.iter().filter(|question| screen(*number).contains(**question)).count();
        assert_eq!(mine, 1, "the {app} at terminal {number} is alone on its screen");
    }
    println!("\nevery screen shows its own application, and nothing else");
}
