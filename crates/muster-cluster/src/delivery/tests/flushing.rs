//! What flushes of producers promise, whatever becomes of the producers.

use super::{BatchId, Broken, World};

impl World {
    /// A producer may ask to hear when all that it has is safe.
    pub(super) fn flush(&mut self, position: usize) {
        let is_asked = self.below(40) == 0;
        let broken = self.broken;
        let producer = &mut self.producers[position];
        let life = producer.life;
        if is_asked {
            // Whoever asks for the first time is told all that was ever lost.
            let asker = usize::try_from(self.now.0).unwrap();
            let token = producer.shipper.flush(asker, None);
            producer.flushes.insert(token, producer.batches);
        }
        let mut promised = Vec::new();
        while let Some((token, flushed)) = producer.shipper.flushes.take_ended() {
            let through = producer.flushes.remove(&token).unwrap();
            promised.extend(flushed.is_safe().then_some(through));
        }
        if broken == Some(Broken::FlushesEarly) {
            promised.extend(producer.flushes.values().copied());
        }
        for through in promised {
            self.flushed += 1;
            let ids = (0..through).map(|number| BatchId {
                producer: life,
                number,
            });
            self.promised.extend(ids);
        }
    }
}
