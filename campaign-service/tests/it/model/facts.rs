//! Facts of the model as the API has them.

use super::state::Kind;
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;

pub(super) fn fact(kind: Kind) -> Fact {
    match kind {
        Kind::Transfer(seconds) => {
            Fact::Transferred(v1::Transferred { seconds_before_transfer: seconds })
        }
        Kind::OptOut => Fact::OptedOut(v1::OptedOut::default()),
        Kind::Success => Fact::Success(v1::Success {}),
        Kind::Link => Fact::LinkOpened(v1::LinkOpened::default()),
        Kind::Text => Fact::TextSent(v1::TextSent {}),
        Kind::CalledIn => Fact::CalledIn(v1::CalledIn::default()),
        Kind::Ended { outcome, .. } => {
            Fact::CallEnded(v1::CallEnded { outcome: outcome.into(), ..Default::default() })
        }
    }
}
