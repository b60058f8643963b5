//! docs/scaling.md quotes what programs print.

#[path = "../examples/skew.rs"]
#[expect(dead_code, reason = "an example's own main")]
mod skew;

#[test]
fn the_page_about_scaling_quotes_what_the_simulation_prints() {
    let page = include_str!("../../docs/scaling.md");
    let report = skew::report();
    assert!(page.contains(&format!("```text\n{report}```\n")), "docs/scaling.md lacks this:\n{report}");
}
