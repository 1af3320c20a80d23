#![deny(unused_must_use)]

#[heirloom::main]
async fn main() {
    heirloom::spawn(async { println!("never printed, perhaps") });
}
