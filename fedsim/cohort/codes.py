"""Vocabularies of a region's records: each column of codes holds positions in one of these tuples.

Sources: ICD-10-SE (Socialstyrelsen) for diagnoses, ATC (WHO Collaborating Centre for Drug Statistics
Methodology) for drugs; laboratory names, units and devices are as in Swedish records.
"""

from __future__ import annotations

# Diagnoses: heart failure first, then comorbidity, then what else people are admitted for, which is no
# comorbidity that is counted here.
HEART_FAILURE = ("I50.9", "I50.0", "I50.1", "I11.0", "I42.0", "I25.5")
COMORBIDITY = {
    "atrial_fibrillation": "I48.9",
    "ischaemic_heart_disease": "I25.1",
    "myocardial_infarction": "I25.2",
    "pci": "Z95.5",
    "cabg": "Z95.1",
    "hypertension": "I10.9",
    "diabetes": "E11.9",
    "diabetes_complications": "E11.7",
    "valve_disease": "I35.9",
    "dilated_cardiomyopathy": "I42.0",
    "peripheral_artery_disease": "I73.9",
    "stroke": "I63.9",
    "tia": "G45.9",
    "renal_failure": "N18.9",
    "dialysis": "Z99.2",
    "copd": "J44.9",
    "dementia": "F03.9",
    "depression": "F32.9",
    "cancer": "C80.9",
    "metastases": "C79.9",
    "liver_disease": "K74.6",
    "rheumatic_disease": "M06.9",
    "ulcer": "K25.9",
}  # fmt: skip
ADMITTED_FOR = ("J18.9", "N39.0", "S72.0", "R07.4", "K92.2", "R55.9", "A46.9", "E87.1")
ICD = tuple(dict.fromkeys((*HEART_FAILURE, *COMORBIDITY.values(), *ADMITTED_FOR)))

DRUGS = {
    "acei": "C09AA02",
    "arb": "C09CA06",
    "arni": "C09DX04",
    "beta_blocker": "C07AB02",
    "mra": "C03DA01",
    "sglt2i": "A10BK01",
    "diuretic": "C03CA01",
    "digoxin": "C01AA05",
    "anticoagulant": "B01AF02",
    "statin": "C10AA05",
}
ATC = tuple(DRUGS.values())

# Measurement -> units, the one that feature tables use first. NYHA class and LVEF are measurements, too.
UNITS_OF = {
    "nt_probnp": ("ng/L", "pmol/L"),
    "creatinine": ("µmol/L", "mg/dL"),
    "haemoglobin": ("g/L", "g/dL"),
    "potassium": ("mmol/L",),
    "sodium": ("mmol/L",),
    "systolic_pressure": ("mmHg",),
    "diastolic_pressure": ("mmHg",),
    "heart_rate": ("/min",),
    "bmi": ("kg/m²",),
    "lvef": ("%",),
    "nyha": ("class",),
    "qrs": ("ms",),
}
MEASUREMENT = tuple(UNITS_OF)
UNIT = tuple(dict.fromkeys(unit for units in UNITS_OF.values() for unit in units))
# What one of the first unit is in the second: the value is multiplied by it.
FACTOR = {
    ("nt_probnp", "pmol/L"): 1 / 8.457,  # 8,457 g/mol
    ("creatinine", "mg/dL"): 1 / 88.4,
    ("haemoglobin", "g/dL"): 0.1,
}
OPERATOR = ("=", "<", ">")  # "<" and ">": beyond what the assay measures, value = its limit

VISIT = ("inpatient", "outpatient", "emergency", "primary care")
DEVICE = ("pacemaker", "CRT-P", "CRT-D", "ICD")
EDUCATION = ("compulsory school", "secondary school", "university")
SMOKING = ("never", "former", "current")
