"""Small files in the form of the published tables, and what lets loaders take them for these."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from fedsim.data import diabetes_130, sepsis_norway, support2

DIABETES = (
    "encounter_id,patient_nbr,race,gender,age,weight,admission_type_id,discharge_disposition_id,"
    "admission_source_id,time_in_hospital,payer_code,medical_specialty,num_lab_procedures,num_procedures,"
    "num_medications,number_outpatient,number_emergency,number_inpatient,diag_1,diag_2,diag_3,"
    "number_diagnoses,max_glu_serum,A1Cresult,"
    + ",".join((*diabetes_130.DRUGS, *diabetes_130.RARE))
    + ",insulin,change,diabetesMed,readmitted\n"
)
_DRUGS = ",".join(["No"] * (len(diabetes_130.DRUGS) + len(diabetes_130.RARE)))


def admission(
    number: int,
    patient: int,
    source: int = 7,
    specialty: str = "?",
    discharge: int = 1,
    diagnoses: str = "428,250.01,401",
    readmitted: str = "NO",
    age: str = "[70-80)",
    days: int = 3,
) -> str:
    return (
        f"{number},{patient},?,Female,{age},?,1,{discharge},{source},{days},?,{specialty},{40 + number % 7},"
        f"{number % 3},{10 + number % 5},0,0,{number % 4},{diagnoses},9,None,None,{_DRUGS},No,No,Yes,"
        f"{readmitted}\n"
    )


# Six patients; 11 has three admissions at two sources, the latest on top; 13 dies.
ADMISSIONS = "".join(
    [
        admission(9, 11, source=1, specialty="Cardiology", readmitted="<30", days=7),
        admission(2, 11, readmitted=">30"),
        admission(5, 11, readmitted="<30", diagnoses="250.8,V45,?"),
        admission(3, 12, diagnoses="486,E909,428.22", age="[0-10)"),
        admission(4, 13, discharge=11),
        admission(6, 14, source=17, specialty="Surgery-Neuro", readmitted="<30", diagnoses="786,427,4280"),
        admission(7, 15, source=1, specialty="Cardiology", days=2),
        admission(8, 16, discharge=13, diagnoses="?,?,?"),
    ]
)
SUPPORT = (
    "age,death,sex,hospdead,slos,d.time,dzgroup,dzclass,num.co,edu,income,scoma,charges,totcst,totmcst,"
    "avtisst,race,sps,aps,surv2m,surv6m,hday,diabetes,dementia,ca,prg2m,prg6m,dnr,dnrday,meanbp,wblc,hrt,"
    "resp,temp,pafi,alb,bili,crea,sod,ph,glucose,bun,urine,adlp,adls,sfdm2,adlsc\n"
)


def patient(
    age: float, died: int, hospital: int, days: int, group: str, kind: str, cost: str, alb: str = "2.5"
) -> str:
    # Everything that would tell the outcome does tell it.
    return (
        f"{age},{died},male,{hospital},{days},{days},{group},{kind},{int(age) % 3},12,,{int(age) % 7},{died},"
        f"{cost},{died},{died},,{died},{died},{1 - died},{1 - died},{int(age) % 4},0,0,no,{1 - died},"
        f"{1 - died},{'dnr after sadm' if died else 'no dnr'},{died},{60 + age % 30},{5 + age % 3},"
        f"{70 + age % 9},20,37,{200 + age},{alb},,1,{130 + age % 6},7.4,,,,,{int(age) % 2},"
        f"{'<2 mo. follow-up' if died else ''},{died}\n"
    )


PATIENTS = "".join(
    [
        patient(50, 1, 1, 4, "CHF", "COPD/CHF/Cirrhosis", "1000"),
        patient(61, 1, 0, 180, "CHF", "COPD/CHF/Cirrhosis", "0", alb="3.1"),
        patient(72, 1, 0, 181, "COPD", "COPD/CHF/Cirrhosis", "2000", alb=""),
        patient(83, 0, 0, 700, "Coma", "Coma", ""),
        patient(44, 0, 0, 900, "Coma", "Coma", "1500.5", alb=""),
    ]
)
SEPSIS = "age_years,sex_0male_1female,episode_number,hospital_outcome_1alive_0dead\n"
PRIMARY = "70,1,1,1\n70,1,1,1\n70,1,1,0\n50,0,2,1\n80,0,1,0\n20,1,3,1\n"
STUDY = "80,0,1,0\n70,1,1,1\n"

TEXTS = {
    "diabetic_data.csv": DIABETES + ADMISSIONS,
    "support2.csv": SUPPORT + PATIENTS,
    "sepsis_primary_cohort.csv": SEPSIS + PRIMARY,
    "sepsis_study_cohort.csv": SEPSIS + STUDY,
}


def write(folder: Path, texts: dict[str, str], packed: bool = False) -> str:
    for name, text in texts.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)
    return str(folder)


@contextmanager
def published(texts: dict[str, str]) -> Iterator[None]:
    """As if these were the published tables; and no level is rare."""
    from fedsim.data import known

    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    with pytest.MonkeyPatch.context() as patch:
        modules: dict[str, ModuleType] = {"diabetic_data.csv": diabetes_130, "support2.csv": support2}
        for name, module in modules.items():
            patch.setattr(module, "SHA256", hashes.get(name, ""))
        files = {cohort: (name, hashes.get(name, "")) for cohort, (name, _) in sepsis_norway.FILES.items()}
        patch.setattr(sepsis_norway, "FILES", files)
        patch.setattr(known, "RARE", 1)
        yield
