use super::Reason;

pub(super) fn of(reason: Reason) -> (&'static str, &'static str, &'static str) {
    let _ = reason;
    todo!()
}
