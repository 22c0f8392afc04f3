use volseg_geometry::Modality;

/// What is asked of a slice about an organ, by its prompt name such as `right kidney` (paper, table 3; specs: organs.md section 2).
///
/// ```
/// use volseg_geometry::Modality;
/// assert_eq!(volseg_prompt::vqa::question("liver", Modality::Ct), "What is the shape of the liver and where is it located?");
/// ```
#[must_use]
pub fn question(organ: &str, modality: Modality) -> String {
    match (organ, modality) {
        ("lungs", Modality::Xray) => "Briefly describe the condition of lungs and location of pathologies".into(),
        ("breast tumor", _) => "What is the shape of breast tumor and where is it located?".into(),
        _ => format!("What is the shape of the {organ} and where is it located?"),
    }
}

/// What a language model is asked for a generic description of an organ, once and without a picture. The class of a tumour or a
/// disease is a label that nobody has at inference, so it is left out.
#[must_use]
pub fn description_question(organ: &str, modality: Modality) -> String {
    match modality {
        Modality::Ct => format!("Briefly describe, in one line, {organ} of a human in CT"),
        Modality::Xray => format!("Briefly describe, in one line, the {organ} of a patient in a chest X-ray"),
        Modality::Ultrasound => format!("Briefly describe, in one line, {organ} of a patient in Ultrasound"),
        Modality::Mr => format!("Briefly describe, in one line, {organ} of a human in MRI"),
    }
}
