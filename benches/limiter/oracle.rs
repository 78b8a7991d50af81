//! The reference for scenarios that do not bring one: a client that knows the server's counters and its neighbours'
//! plans, never trips the limit, and sends each request at the first instant that harms nobody.

use std::time::Duration;

use descope_gitops::simulator::rate_limit::Background;
use descope_gitops::simulator::rate_limit::RateLimit;
use descope_gitops::simulator::rate_limit::Ruling;

use crate::scenario::Scenario;
use crate::scenario::seconds;

/// How much later the request has to arrive, if it may not arrive now.
pub fn postpone(
    now: Duration,
    limit: &mut RateLimit,
    background: Option<&Background>,
    scenario: &Scenario,
) -> Option<Duration> {
    let wait = limit.wait(now);
    if !wait.is_zero() {
        return Some(wait);
    }
    let background = background?;
    let window = seconds(scenario.server.window_s);
    let (mut limit, mut background) = (limit.clone(), background.clone());
    let before = limit.locked_time(now + window);
    let harmed = limit.request(now) != Ruling::Admitted || {
        background.advance(now + window, &mut limit);
        limit.locked_time(now + window) > before || background.served < background.arrived
    };
    harmed.then_some(window / 200)
}
