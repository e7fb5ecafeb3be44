"""The words of each task of the shipped adapter, as its card holds them.

Left out on purpose, because they mean something else as often: "soft", "best" without "quality", "resolution", "ancient".
"""

from __future__ import annotations

from rankclip.heads.wording import Wording


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


WHO = words(
    "people, person, persons, face, faces, men, man, women, woman, boy, boys, girl, girls, guy, guys, lady, ladies, gentleman, gentlemen, gents, male, males, female, females, human, "
    "humans, human beings, individual, individuals, folk, folks, portrait, portraits, selfie, selfies, headshot, headshots, head shots, relative, relatives, family, families, "
    "family member, family members, member, members, friend, friends, player, players, actor, actors, actress, actresses, guest, guests, colleague, colleagues, couple, couples, model, "
    "models, singer, singers, musician, musicians, student, students, pupil, pupils, employee, employees, worker, workers, teacher, teachers, doctor, doctors, nurse, nurses, "
    "customer, customers, passenger, passengers, tourist, tourists, visitor, visitors, neighbour, neighbours, stranger, strangers, celebrity, celebrities, someone, somebody, "
    "everyone, everybody, anyone, anybody, he, she, him, her, his, who, whom, sibling, siblings, brother, brothers, sister, sisters, parent, parents, mother, mothers, father, "
    "fathers, mum, mums, mom, moms, dad, dads, cousin, cousins, uncle, uncles, aunt, aunts, classmate, classmates, teammate, teammates, athlete, athletes, candidate, candidates, "
    "applicant, applicants, participant, participants, crowd, groom, bride, citizen, citizens, resident, residents, patient, patients, politician, politicians, contestant, "
    "contestants, dancer, dancers, swimmer, swimmers, runner, runners, soldier, soldiers, officer, officers, farmer, farmers, chef, chefs, artist, artists, driver, drivers, "
    "customer's, person's, people's, subject, subjects, sitter, sitters, husband, wife, husbands, wives, son, sons, daughter, daughters, team, staff, years"
)  # fmt: skip


def counting(noun: str) -> Wording:
    """The words by which a number of things is asked for; the grammar knows "most cups first" without them."""
    return Wording(
        more_nouns=(f"many {noun}", f"lots of {noun}", f"plenty of {noun}", "many", f"a lot of {noun}"),
        less_nouns=(f"few {noun}", "few", f"hardly any {noun}", f"no {noun}"),
        names=(f"number of {noun}", f"{noun} count", f"count of {noun}", f"how many {noun}", f"amount of {noun}"),
        whole=False,
    )


WORDINGS = {
    "age": Wording(
        more=words("old, elder, eldest, elderly, aged, senior, grey haired, white haired, geriatric, grown up, mature, advanced in years, advanced in age, getting on in years, along in years"),
        less=words("young, youthful, juvenile, adolescent, teenage, underage, childlike, boyish, girlish, baby faced, newborn"),
        vague=words("old, aged, mature"),
        more_nouns=words("pensioner, pensioners, old age pensioners, senior citizen, senior citizens, seniors, grandparent, grandparents, grandma, grandmas, grandpa, grandpas, granny, "
                         "grannies, grandad, granddad, grandads, granddads, grandmother, grandmothers, grandfather, grandfathers, retiree, retirees, retired people, retired persons, "
                         "the retired, elders, the elderly, the aged, oldies, old folks, old timers, centenarians, octogenarians, great grandparents, adult, adults, grown ups, grownups"),
        less_nouns=words("baby, babies, infant, infants, toddler, toddlers, kid, kids, child, children, newborns, youngster, youngsters, youth, youths, young ones, little ones, teenager, "
                         "teenagers, teen, teens, adolescents, minors, grandchild, grandchildren, grandkids, schoolchildren, schoolkids, preschoolers, kindergartners, juniors, tots"),
        names=words("age, ages, years of age, seniority, estimated age, years of life, how many years they have lived, oldness"),
        against=words("youth, youthfulness, youngness"),
        subjects=WHO,
    ),
    "quality": Wording(
        more=words("sharp, crisp, clear, clean, in focus, focused, well focused, high quality, good quality, top quality, best quality, well exposed, properly exposed, correctly exposed, noise free, "
                   "noiseless, technically good, technically perfect, technically sound, technically excellent, flawless, razor sharp, tack sharp, pin sharp, technically better, "
                   "technically best"),
        less=words("blurry, blurred, unsharp, noisy, grainy, out of focus, unfocused, defocused, low quality, bad quality, poor quality, badly exposed, poorly exposed, wrongly exposed, "
                   "pixelated, pixelised, pixelized, fuzzy, smeared, shaky, shaken, motion blurred, over compressed, overcompressed, heavily compressed, technically bad, technically poor, "
                   "technically flawed, degraded, blown out, technically worse, technically worst"),
        vague=("clean",),
        names=words("quality, image quality, photo quality, picture quality, technical quality, photographic quality, sharpness, clarity, crispness, focus, exposure quality, technical "
                    "merit, visual quality"),
        against=words("blur, blurriness, blurring, noise, noisiness, grain, graininess, image noise, sensor noise, unsharpness, fuzziness, compression artefacts, compression artifacts, "
                      "artefacts, artifacts, pixelation, motion blur, camera shake"),
    ),
    "memorability": Wording(
        more=words("memorable, unforgettable, striking, easy to remember, easiest to remember, hardest to forget, easily remembered, worth remembering, hard to forget, stick in the mind, sticks in the mind, stick in the memory, sticks in "
                   "the memory, stick in memory, remembered, remember, remembers, stay in the mind, stays in the mind, stay in the memory, be remembered, likely to be remembered, "
                   "impossible to forget, stick in people's minds, stick in your mind"),
        less=words("forgettable, unremarkable, unmemorable, easily forgotten, easy to forget, easiest to forget, hardest to remember, hard to remember, quickly forgotten, likely to be forgotten, forgotten, nondescript"),
        names=words("memorability, memorableness, how memorable"),
        against=words("forgettability, forgettableness"),
        subjects=words("people, people's, viewer, viewers, someone, moments"),
    ),
    "brightness": Wording(
        more=words("bright, light, luminous, brightly lit, light filled, full of light"),
        less=words("dark, dim, gloomy, murky, dimly lit, poorly lit, shadowy, badly lit"),
        names=words("brightness, luminance, lightness, luminosity, amount of light, light level, light levels, light intensity, mean brightness, average brightness, overall brightness"),
        against=words("darkness, dimness, gloom, gloominess"),
    ),
    "colourfulness": Wording(
        more=words("colourful, vivid, vibrant, saturated, multicoloured, multi coloured, rich in colour, richly coloured, strongly coloured, full of colour, brightly coloured, coloured, colour, "
                   "highly saturated, oversaturated, in colour, intensely coloured"),
        less=words("dull, colourless, grey, muted, desaturated, monochrome, monochromatic, black and white, b&w, greyscale, washed out, drab, unsaturated, pale, faded, weakly coloured"),
        names=words("colourfulness, saturation, vividness, vibrancy, vibrance, colour intensity, colour saturation, richness of colour, intensity of colour, amount of colour, how much colour"),
        subjects=("colours",),
        against=words("greyness, dullness, desaturation, paleness, drabness"),
    ),
}  # fmt: skip
