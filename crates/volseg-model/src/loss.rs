//! The loss that SAM-Med2D was trained with (specs: sam-med2d.md section 7), and its metrics.

use crate::Error;
use candle_core::Tensor;
use candle_nn::ops::sigmoid;

/// The parts of the loss and their weighted sum, one number each.
pub struct Loss {
    /// Focal loss, per pixel.
    pub focal: Tensor,
    /// Soft Dice loss, **summed over the batch** before the division.
    pub dice: Tensor,
    /// Squared error of the predicted IoU against one soft IoU of the whole batch.
    pub iou: Tensor,
    /// `20 focal + dice + iou`
    pub total: Tensor,
}

/// Loss of mask logits against truth of the same shape, and of predicted IoUs (any shape, one a row).
///
/// The true IoU is not detached: as in the published code it sends gradient into the mask too.
///
/// # Errors
/// Shapes that differ.
pub fn sam_med2d_loss(logits: &Tensor, truth: &Tensor, predicted_iou: &Tensor) -> Result<Loss, Error> {
    let s = sigmoid(logits)?;
    let (inverse, background) = (s.affine(-1.0, 1.0)?, truth.affine(-1.0, 1.0)?);
    let inside = ((truth * inverse.sqr()?)? * (&s + 1e-12)?.log()?)?;
    let outside = ((background * s.sqr()?)? * (inverse + 1e-12)?.log()?)?;
    let focal = ((inside * -0.25)? + (outside * -0.75)?)?.sum_all()?;
    let focal = (focal / logits.elem_count() as f64)?;
    let both = (&s * truth)?.sum_all()?;
    let sum = (s.sum_all()? + truth.sum_all()?)?;
    let dice = (both.affine(2.0, 1.0)? / (&sum + 1.0)?)?.affine(-1.0, 1.0)?;
    let union = ((sum - &both)? + 1e-7)?;
    let iou = ((both + 1e-7)? / union)?;
    let iou = predicted_iou.broadcast_sub(&iou)?.sqr()?.mean_all()?;
    let total = (((&focal * 20.0)? + &dice)? + &iou)?;
    Ok(Loss { focal, dice, iou, total })
}

/// Dice and IoU of one row as the published code counts them: sigmoid only if the smallest value of `all` rows together
/// is below 0, then > 0.5. Two empty masks give 1.
#[must_use]
pub fn sam_med2d_metrics(row: &[f32], truth: &[f32], smallest_of_all: f32) -> (f32, f32) {
    let threshold = if smallest_of_all < 0.0 { 0.0 } else { 0.5 };
    let (mut both, mut predicted, mut positive) = (0f32, 0f32, 0f32);
    for (&p, &t) in row.iter().zip(truth) {
        let (p, t) = (f32::from(u8::from(p > threshold)), f32::from(u8::from(t > 0.5)));
        both += p * t;
        predicted += p;
        positive += t;
    }
    let (small, sum) = (1e-7, predicted + positive);
    ((2.0 * both + small) / (sum + small), (both + small) / (sum - both + small))
}
