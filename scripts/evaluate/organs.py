"""Ids of CT organs (docs: reference/organs) and how TotalSegmentator's labels become them, for the scripts of this folder."""
import numpy

NAMES = ["", "spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
         "inferior_vena_cava", "pancreas", "right_adrenal_gland", "left_adrenal_gland", "duodenum", "urinary_bladder",
         "prostate_or_uterus"]

# TotalSegmentator v2 class id -> our id.
TS = {1: 1, 2: 2, 3: 3, 4: 4, 15: 5, 5: 6, 6: 7, 52: 8, 63: 9, 7: 10, 8: 11, 9: 12, 19: 13, 21: 14, 22: 15}


def from_totalsegmentator(labels):
    """Whole numbers in, our ids out; other classes become 0."""
    table = numpy.zeros(max(labels.max(), max(TS)) + 1, numpy.uint8)
    table[list(TS)] = list(TS.values())
    return table[labels]
