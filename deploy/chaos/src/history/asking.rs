//! Requests to a replica, and to another one when there is no answer.

use super::History;
use super::clients::Client;
use rand::Rng;
use tonic::{Code, Response, Status};

impl History {
    /// Asks any replica, up to `times` times. Returns `None` when no answer was OK. Gives up at once on an answer that
    /// would be the same again.
    pub(super) async fn ask<T, F>(
        &mut self,
        times: usize,
        mut question: impl FnMut(Client) -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        for _ in 0..times {
            let replica = self.random.random_range(0..self.stage.clients.len());
            match question(self.stage.clients[replica].clone()).await {
                Ok(answer) => return Some(answer.into_inner()),
                Err(status) => {
                    self.stage.journal.fail(format!("{status:?}"));
                    if is_refusal(&status) {
                        return None;
                    }
                    self.wait(30..250).await;
                }
            }
        }
        None
    }
}

fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Aborted
    )
}
