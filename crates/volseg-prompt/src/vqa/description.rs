use super::{HttpClient, cache::AnswerCache, description_question, text::one_line};
use crate::Error;
use std::path::Path;
use std::sync::Mutex;
use volseg_geometry::{Modality, OrganId};

/// One line about an organ in general, as it looks in pictures (specs: organs.md section 2).
///
/// ```
/// let liver = "liver".parse().unwrap();
/// assert!(volseg_prompt::vqa::description(liver).starts_with("The liver is"));
/// ```
#[must_use]
pub fn description(organ: OrganId) -> &'static str {
    DESCRIPTIONS[usize::from(organ.get()) - 1]
}

/// By id, from 1.
const DESCRIPTIONS: [&str; 20] = [
    "The spleen is a wedge-shaped soft tissue organ in the left upper abdomen behind the stomach, homogeneous on CT in the portal venous phase.",
    "The right kidney is a bean-shaped retroperitoneal organ beside the spine below the liver, with an enhancing cortex and a central fatty sinus.",
    "The left kidney is a bean-shaped retroperitoneal organ beside the spine below the spleen, with an enhancing cortex and a central fatty sinus.",
    "The gallbladder is a pear-shaped fluid-filled sac of low density under the right lobe of the liver.",
    "The esophagus is a small round muscular tube in front of the spine near the aorta that enters the stomach, often collapsed with a little air.",
    "The liver is the largest solid abdominal organ, a homogeneous wedge filling the right upper abdomen under the diaphragm.",
    "The stomach is a J-shaped hollow organ in the left upper abdomen filled with fluid, food or gas.",
    "The abdominal aorta is a round bright vessel directly in front of the spine, slightly left of the midline.",
    "The inferior vena cava is an oval vessel in front of the spine to the right of the aorta.",
    "The pancreas is an elongated lobulated gland lying across the upper abdomen behind the stomach, from the duodenum to the spleen.",
    "The right adrenal gland is a thin Y or V shaped structure above the right kidney, behind the inferior vena cava.",
    "The left adrenal gland is a thin Y or V shaped structure in front of the upper pole of the left kidney, beside the aorta.",
    "The duodenum is a C-shaped tube of small bowel that surrounds the head of the pancreas.",
    "The urinary bladder is a round midline pelvic organ of low density, filled with urine.",
    "The prostate is a round soft tissue gland below the bladder in men; the uterus is a pear-shaped soft tissue organ behind the bladder in women.",
    "The lungs are two large air-filled dark regions on both sides of the heart, bounded by the ribs and the diaphragm.",
    "A breast tumor is a dark mass inside the breast tissue on ultrasound, oval and smooth if benign, irregular with blurred margins if malignant.",
    "The anterior hippocampus is the broad head of the hippocampus in the medial temporal lobe, beside the amygdala.",
    "The posterior hippocampus is the narrow body and tail of the hippocampus along the floor of the lateral ventricle.",
    "A kidney is a bean-shaped retroperitoneal organ beside the spine, with a bright cortex and a central fatty sinus.",
];

/// Where generic descriptions come from: the built-in table, or a language model that is asked once an organ.
#[derive(Default)]
pub struct Descriptions {
    model: Option<(HttpClient, AnswerCache)>,
    warnings: Mutex<Vec<String>>,
}

impl Descriptions {
    /// The built-in table.
    #[must_use]
    pub fn built_in() -> Self {
        Self::default()
    }

    /// A language model. What it says is kept in `cache` (JSON lines), so that it is asked once an organ and modality, never once an image.
    ///
    /// # Errors
    /// [`Error::Io`] if the cache is there and cannot be read.
    pub fn by_model(client: HttpClient, cache: Option<&Path>) -> Result<Self, Error> {
        Ok(Self { model: Some((client, AnswerCache::open(cache)?)), ..Self::default() })
    }

    /// The description of an organ. Where the model fails, the built-in one and a warning.
    #[must_use]
    pub fn of(&self, organ: OrganId, modality: Modality) -> String {
        let built_in = description(organ).to_owned();
        let Some((client, cache)) = &self.model else { return built_in };
        let question = description_question(organ.organ().prompt, modality);
        let key = [String::new(), question.clone(), client.name()];
        if let Some(known) = cache.get(&key) {
            return known;
        }
        let said = client.chat(&question, None).map(|text| one_line(&text));
        let (text, warning) = match said {
            Ok(text) if !text.is_empty() => {
                let kept = cache.put(key, &text);
                (text, kept.err().map(|e| format!("descriptions are not kept: {e}")))
            }
            Ok(_) => {
                (built_in, Some(format!("the model said nothing about {organ}; its built-in description is used")))
            }
            Err(e) => {
                // Not asked again in this run: a dead service would cost its time limit for every slice.
                cache.remember(key, &built_in);
                (built_in, Some(format!("built-in description of {organ} is used: {e}")))
            }
        };
        if let (Some(warning), Ok(mut warnings)) = (warning, self.warnings.lock()) {
            warnings.push(warning);
        }
        text
    }

    /// What went wrong so far.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().map(|w| w.clone()).unwrap_or_default()
    }
}
