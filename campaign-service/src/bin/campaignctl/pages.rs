//! Lists, page by page.

use crate::cli::PageArgs;
use crate::failure::Failure;
use crate::printing::Printer;
use crate::show::Show;

/// Prints the page that was asked for, or all from there on. `fetch` gets a page of a size by its token;
/// `next` is where a page names the one after it.
pub async fn print<M: Show>(
    printer: &Printer,
    page: PageArgs,
    fetch: impl AsyncFn(i32, String) -> Result<M, Failure>,
    next: fn(&mut M) -> &mut String,
) -> Result<(), Failure> {
    let PageArgs { page_size, mut page_token, all } = page;
    loop {
        let mut answer = fetch(page_size, page_token).await?;
        // What is printed next is not for the reader to ask for.
        page_token = if all { std::mem::take(next(&mut answer)) } else { String::new() };
        printer.answer(&answer)?;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}
