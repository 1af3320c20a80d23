#[heirloom::main]
async fn program() -> u8 {
    std::future::ready("text").await
}

fn main() {}
