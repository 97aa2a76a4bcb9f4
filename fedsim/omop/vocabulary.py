"""Standard concepts of what `fedsim.cohort.codes` holds. 0, OMOP's "no matching concept": none is known here.

Source: OHDSI Standardized Vocabularies (Athena): SNOMED for conditions, RxNorm for drugs, LOINC for
measurements, UCUM for units. What stands in a record is kept beside each concept, as its source value.
"""

from __future__ import annotations

from fedsim.cohort import codes

NO_CONCEPT = 0
MALE, FEMALE = 8507, 8532
EHR = 32817  # type concept: from an electronic health record
CDM_5_4 = 756265
PRIMARY = 32902  # condition status: primary diagnosis

VISITS = {"inpatient": 9201, "outpatient": 9202, "emergency": 9203, "primary care": 581477}
INPATIENT = (9201, 262)  # 262: emergency room and inpatient visit
OPERATORS = {"=": 4172703, "<": 4171756, ">": 4172704}
BELOW = (4171756, 4171754)  # < and <=

CONDITIONS = {
    "I50.9": 316139,  # heart failure
    "I50.0": 319835,  # congestive heart failure
    "I50.1": 439846,  # left heart failure
    "I48.9": 313217,  # atrial fibrillation
    "I25.1": 317576,  # coronary arteriosclerosis
    "I25.2": 314666,  # old myocardial infarction
    "I10.9": 320128,  # essential hypertension
    "E11.9": 201826,  # type 2 diabetes mellitus
    "E11.7": 443732,  # disorder due to type 2 diabetes mellitus
    "I73.9": 321052,  # peripheral vascular disease
    "I63.9": 443454,  # cerebral infarction
    "G45.9": 373503,  # transient cerebral ischaemia
    "N18.9": 46271022,  # chronic kidney disease
    "J44.9": 255573,  # chronic obstructive lung disease
    "F03.9": 4182210,  # dementia
    "F32.9": 440383,  # depressive disorder
    "C80.9": 443392,  # malignant neoplastic disease
    "C79.9": 432851,  # metastatic malignant neoplasm
    "K74.6": 4064161,  # cirrhosis of liver
    "M06.9": 80809,  # rheumatoid arthritis
    "K25.9": 4265600,  # gastric ulcer
    "J18.9": 255848,  # pneumonia
    "N39.0": 81902,  # urinary tract infectious disease
    "R07.4": 77670,  # chest pain
    "K92.2": 192671,  # gastrointestinal haemorrhage
    "R55.9": 135360,  # syncope
    "E87.1": 435515,  # hypo-osmolality or hyponatraemia
}
DRUGS = {
    "C09AA02": 1341927,  # enalapril
    "C09CA06": 1351557,  # candesartan
    "C07AB02": 1307046,  # metoprolol
    "C03DA01": 970250,  # spironolactone
    "A10BK01": 44785829,  # dapagliflozin
    "C03CA01": 956874,  # furosemide
    "C01AA05": 1326303,  # digoxin
    "B01AF02": 43013024,  # apixaban
    "C10AA05": 1545958,  # atorvastatin
}  # C09DX04 is two ingredients
# By unit, where LOINC has one code for mass and one for substance.
MEASUREMENTS = {
    ("nt_probnp", "ng/L"): 3029187,  # LOINC 33762-6
    ("creatinine", "µmol/L"): 3020564,  # 14682-9
    ("creatinine", "mg/dL"): 3016723,  # 2160-0
    ("haemoglobin", "g/L"): 3000963,  # 718-7
    ("haemoglobin", "g/dL"): 3000963,
    ("potassium", "mmol/L"): 3023103,  # 2823-3
    ("sodium", "mmol/L"): 3019550,  # 2951-2
    ("systolic_pressure", "mmHg"): 3004249,  # 8480-6
    ("diastolic_pressure", "mmHg"): 3012888,  # 8462-4
    ("heart_rate", "/min"): 3027018,  # 8867-4
    ("bmi", "kg/m²"): 3038553,  # 39156-5
    ("lvef", "%"): 3027172,  # 10230-1
}
UNITS = {
    "ng/L": 8725,
    "pmol/L": 8729,
    "µmol/L": 8749,
    "mg/dL": 8840,
    "g/L": 8636,
    "g/dL": 8713,
    "mmol/L": 8753,
    "mmHg": 8876,
    "/min": 8541,
    "kg/m²": 9531,
    "%": 8554,
    "ms": 9593,
}

# Vocabulary of each table's codes: source value -> standard concept.
KNOWN: dict[str, dict[str, int]] = {
    "condition_occurrence": {code: CONDITIONS.get(code, NO_CONCEPT) for code in codes.ICD},
    "drug_exposure": {code: DRUGS.get(code, NO_CONCEPT) for code in codes.ATC},
    "device_exposure": dict.fromkeys(codes.DEVICE, NO_CONCEPT),
    "visit_occurrence": {name: VISITS[name] for name in codes.VISIT},
    "observation": dict.fromkeys(("deprivation", "living_alone", "education", "smoking"), NO_CONCEPT),
    "measurement": {
        name: MEASUREMENTS.get((name, units[0]), NO_CONCEPT) for name, units in codes.UNITS_OF.items()
    },
}


def unit_key(text: str) -> str:
    """A unit as it is compared: however its micro sign, square, case and spaces are written."""
    key = "".join(text.split()).lower().replace("µ", "u").replace("μ", "u")
    key = key.replace("²", "2").replace("^", "").replace("[", "").replace("]", "")
    return key.replace("mcg", "ug").replace("{beats}", "").replace("beats/min", "/min").replace("bpm", "/min")


def unit_of(concept: int) -> str:
    """The unit of a standard concept; "" for one that is not known here."""
    return next((unit for unit, known in UNITS.items() if known == concept), "")
