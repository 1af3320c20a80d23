use std::rc::Rc;

async fn step() {}

fn main() {
    heirloom::spawn(async {
        let shared = Rc::new(7);
        step().await;
        drop(shared);
    })
    .detach();
}
