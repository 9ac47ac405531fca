#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sabotage {
    #[default]
    None,
    SecondOpenForgets,
    SilentFailure,
    EarlyForEver,
    AsksNobody,
}
impl Sabotage {
    pub(super) fn early(
        self,
        early: std::collections::VecDeque<super::early::EarlyWrite>,
    ) -> std::collections::VecDeque<super::early::EarlyWrite> {
        early
    }
}
