//! The refusals that routes of the admin API have in common, for their descriptions.
//!
//! Each type stands for one or more statuses of a route. A route's description names it; it has no values.

use crate::api::{problem::PROBLEM_JSON, refusals::refusals};

refusals! { pub(in crate::admin), PROBLEM_JSON, "Problem" =>
    /// Requires a credential.
    Guarded: 401 "Neither the root password nor a valid API key", 403 "An API key that may not use the admin API";
    /// Takes a parameter that may be wrong.
    Bad: 400 "A name, a number or a header field is wrong: the text says which";
    /// Takes a JSON body.
    TakesBody: 400 "The body, or a name, is wrong: the text says what", 413 "The body is too large", 415 "The Content-Type is not JSON, or the body is compressed";
    /// Names something that may not exist.
    Missing: 404 "Nothing of this name exists";
    /// May conflict with the present state.
    Taken: 409 "The present state does not allow it: the text says why";
    /// May be meant for an earlier state.
    Stale: 412 "It no longer has the tag of If-Match";
    /// Needs the registry or the broker.
    Away: 503 "The broker or the registry did not answer: the text says whether something was changed";
}
