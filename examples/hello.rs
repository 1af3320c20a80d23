//! Shows that a task inherits what its spawner has set, as it was at the spawn call, and keeps what
//! it sets to itself.

use heirloom::{context_var, spawn};

context_var! {
    static USER: &'static str;
}

/// Reads the user from the context: no function has to pass it down.
fn greeting() -> String {
    format!("hello, {}", USER.get().unwrap_or("stranger"))
}

async fn greet_twice() -> (String, String) {
    let inherited = greeting();
    USER.set("the task itself");
    (inherited, greeting())
}

#[heirloom::main]
pub(crate) async fn main() {
    println!("nothing set:           {}", greeting());
    assert_eq!(greeting(), "hello, stranger");

    USER.set("Ada");
    let task = spawn(greet_twice());
    USER.set("Grace"); // after the spawn call: the task does not see it

    let (inherited, own) = task.await.expect("the task neither panics nor is cancelled");
    println!("inherited by the task: {inherited}");
    println!("set in the task:       {own}");
    println!("meanwhile, out here:   {}", greeting());

    assert_eq!(inherited, "hello, Ada");
    assert_eq!(own, "hello, the task itself");
    assert_eq!(greeting(), "hello, Grace");
}
