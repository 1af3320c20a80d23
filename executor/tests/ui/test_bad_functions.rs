#[heirloom::test]
fn not_async() {}

#[heirloom::test]
async fn with_arguments(number: u32) {
    drop(number);
}

#[heirloom::test]
async fn generic<T>() {}

#[heirloom::test]
async fn of_any_length<const LENGTH: usize>() {}

#[heirloom::test]
async unsafe fn dangerous() {}

#[heirloom::test]
#[test]
async fn twice() {}

#[heirloom::test(workers = 0)]
fn several_things_at_once<T>(value: T) {}

fn main() {}
