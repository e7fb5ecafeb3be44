"""Instructions: what a sentence asks for. `parse` is the door; the grammar is written out in docs/instructions.md.

This table is the test. Columns: the text, what comes first, what comes last, the attribute between them (a minus: its low values first), the rule.
`=` stands for a plain sentence, taken as it is.

    older faces first | old faces | young faces | age | X first
    oldest people first | old people | young people | age | X first
    youngest first | a young person | an old person | -age | X first
    faces, oldest last | young faces | old faces | -age | X last
    sort faces from youngest to oldest | young faces | old faces | -age | from X to Y
    from dark to bright | a dark photo | a bright photo | -brightness | from X to Y
    photos from dark to bright | a dark photo | a bright photo | -brightness | from X to Y
    sort the photos from old to young | an old person | a young person | age | from X to Y
    from indoors to outdoors | indoors | outdoors |  | from X to Y
    from summer to winter | summer | winter |  | from X to Y
    from empty to crowded | an empty photo | a crowded photo | -crowdedness | from X to Y
    from red to blue | a red photo | a blue photo |  | from X to Y
    sort by sharpness, worst first | a blurry photo | a sharp photo | -sharpness | by X
    sort by number of people | many people | no people | number of people | by X
    sort by number of people, fewest first | no people | many people | -number of people | by X
    rank by age | an old person | a young person | age | by X
    by age, youngest first | a young person | an old person | -age | by X
    by brightness ascending | a dark photo | a bright photo | -brightness | by X
    by brightness descending | a bright photo | a dark photo | brightness | by X
    order my photos by sharpness | a sharp photo | a blurry photo | sharpness | by X
    dogs by size | big dogs | small dogs | size | by X
    photos by how colourful they are | a colourful photo | a dull photo | colourfulness | by X
    sort by cuteness, least first | a menacing photo | a cute photo | -cuteness | by X
    rank these by how old they look | an old person | a young person | age | by X
    Rank the number of apples. | many apples | no apples | number of apples | by X
    Sort images by the number of dogs. | many dogs | no dogs | number of dogs | by X
    rank the quality of the photos | a high-quality photo | a low-quality photo | quality | by X
    rank the age of the person | an old person | a young person | age | by X
    most people to fewest | many people | no people | number of people | X to Y
    most to fewest people | many people | no people | number of people | X to Y
    fewest people to most | no people | many people | -number of people | X to Y
    big to small | a big photo | a small photo | size | X to Y
    dogs, biggest to smallest | big dogs | small dogs | size | X to Y
    cats to dogs | cats | dogs |  | X to Y
    sunny to rainy | a sunny photo | a rainy photo |  | X to Y
    cats before dogs | cats | dogs |  | X before Y
    old before young | an old person | a young person | age | X before Y
    portraits then landscapes | portraits | landscapes |  | X before Y
    sunny before rainy | a sunny photo | a rainy photo |  | X before Y
    sharpest photos of the dog first | a sharp photo of a dog | a blurry photo of a dog | sharpness | X first
    photos of the dog, sharpest first | a sharp photo of a dog | a blurry photo of a dog | sharpness | X first
    most colourful beaches first | colourful beaches | dull beaches | colourfulness | X first
    most colorful first | a colourful photo | a dull photo | colourfulness | X first
    least crowded beaches | empty beaches | crowded beaches | -crowdedness | comparative
    fewest cars first | no cars | many cars | -number of cars | X first
    more dogs | many dogs | no dogs | number of dogs | comparative
    dogs first | dogs |  |  | X first
    dogs last |  | dogs |  | X last
    beach photos last |  | beach photos |  | X last
    blurry last | a sharp photo | a blurry photo | sharpness | X last
    blurry ones at the bottom | a sharp photo | a blurry photo | sharpness | X last
    put the blurry ones at the bottom | a sharp photo | a blurry photo | sharpness | X last
    best photos first | a good photo | a bad photo | goodness | X first
    worst photos last | a good photo | a bad photo | goodness | X last
    high quality first | a high-quality photo | a low-quality photo | quality | X first
    low quality last | a high-quality photo | a low-quality photo | quality | X last
    the most memorable photos first | a memorable photo | a forgettable photo | memorability | X first
    happiest children first | happy children | sad children | happiness | X first
    indoor photos first | indoor photos |  |  | X first
    gray cats first | grey cats |  |  | X first
    newest photos | a new photo | an old photo | date taken | by date
    newest photos first | a new photo | an old photo | date taken | by date
    oldest photos first | an old photo | a new photo | -date taken | by date
    photos of the dog, latest first | a new photo of a dog | an old photo of a dog | date taken | by date
    the 10 most recent pictures | a new photo | an old photo | date taken | by date
    put the latest pictures at the top | a new photo | an old photo | date taken | by date
    newest photos last | an old photo | a new photo | -date taken | by date
    sort by date taken | a new photo | an old photo | date taken | by date
    sort by date (oldest first) | an old photo | a new photo | -date taken | by date
    photos of the beach by date, newest first | a new photo of a beach | an old photo of a beach | date taken | by date
    in chronological order | an old photo | a new photo | -date taken | by date
    sort my photos from oldest to newest | an old photo | a new photo | -date taken | by date
    photos of people, oldest first | old people | young people | age | X first
    newest cars first | new cars | old cars | newness | X first
    faces from oldest to newest | old faces | new faces | -newness | from X to Y
    Rank the year the photo was taken. | =
    old photos | =
    older cars first | old cars | new cars | -newness | X first
    sharpest knives | a sharp photo of knives | a blurry photo of knives | sharpness | comparative
    tallest building | a tall building | a short building | height | comparative
    more formal | a formal photo | a casual photo | formality | comparative
    less blue | an orange photo | a blue photo | -blueness | comparative
    greener | a green photo | a brown photo | greenness | comparative
    larger | a large photo | a small photo | largeness | comparative
    who is younger? | a young person | an old person | -age | comparative
    which photo is brighter? | a bright photo | a dark photo | brightness | comparative
    which of the two is sharper? | a sharp photo | a blurry photo | sharpness | comparative
    which has more people? | many people | no people | number of people | comparative
    top 5 sharpest | a sharp photo | a blurry photo | sharpness | comparative
    the 3 brightest photos | a bright photo | a dark photo | brightness | comparative
    top 10 oldest faces | old faces | young faces | age | comparative
    older faces 1st | old faces | young faces | age | X first
    faces: oldest first | old faces | young faces | age | X first
    sort by age (youngest first) | a young person | an old person | -age | by X
    by age desc | an old person | a young person | age | by X
    sort by brightness high to low | a bright photo | a dark photo | brightness | by X
    sort faces by age from young to old | young faces | old faces | -age | by X
    sort by sharpest first | a sharp photo | a blurry photo | sharpness | by X
    sort by best quality | a high-quality photo | a low-quality photo | quality | by X
    highest quality first | a high-quality photo | a low-quality photo | quality | X first
    lowest resolution last | a high-resolution photo | a low-resolution photo | resolution | X last
    order: dark to bright | a dark photo | a bright photo | -brightness | X to Y
    order from newest to oldest | a new photo | an old photo | date taken | by date
    darkest photos first, brightest last | a dark photo | a bright photo | -brightness | X first, Y last
    young last, old first | an old person | a young person | age | X first, Y last
    can you sort these by sharpness please | a sharp photo | a blurry photo | sharpness | by X
    I want the most beautiful photos at the top | a beautiful photo | an ugly photo | beauty | X first
    find the blurriest photos | a blurry photo | a sharp photo | -sharpness | comparative
    really sharp photos first | a sharp photo | a blurry photo | sharpness | X first
    smiling faces first | smiling faces | frowning faces | smile | X first
    brightness | a bright photo | a dark photo | brightness | by X
    number of people | many people | no people | number of people | by X
    how old is the person? | an old person | a young person | age | by X
    how crowded is it? | a crowded photo | an empty photo | crowdedness | by X
    how many dogs are there? | many dogs | no dogs | number of dogs | by X
    which ones are blurry? | a blurry photo | a sharp photo | -sharpness | comparative
    which pictures have a dog? | a dog |  |  | search
    show me dogs | dogs |  |  | search
    not blurry | a sharp photo | a blurry photo | sharpness | not X
    photos that are not too dark | a bright photo | a dark photo | brightness | not X
    not blue |  | a blue photo |  | not X
    photos without people | no people | many people | -number of people | not X
    no dog |  | dog |  | not X
    bright and sharp | a bright and sharp photo | a dark and blurry photo |  | X and Y
    sharpest and most colourful photos of flowers | a sharp and colourful photo of flowers | a blurry and dull photo of flowers |  | X and Y
    happy and old people first | happy and old people | sad and young people |  | X and Y
    least noise | no noise | noise |  | comparative
    at night | =
    with a dog | =
    a photo of a cat | =
    a sunset over the sea | =
    the same but at night | =
    von alt nach jung | =

Sentences that people wrote for pictures (captions, changes asked for, differences told); most are plain sentences and must stay so:

    is longer | a long photo | a short photo | length | comparative
    is longer and less fitting | =
    is T shirt with cats on it | =
    is red with a silver belt | =
    has shorter sleeves and is darker colored | =
    has a long sleeve purple color long v-neck | =
    has more fur and is a dress | =
    is red and shorter | =
    has long sleeves and a print | =
    shorter sleeves and flowy | =
    tighter and less revealing | =
    is belted | =
    longer dress | a long dress | a short dress | length | comparative
    Give the bird a white patch around its eye. | =
    monkey is not sleeping it is sitting on a branch | =
    Now only five TVs and they are not all the same | =
    Four empanadas on a plate | =
    Two animals face each other in the wild. | =
    Fewer paper towels per pack | no paper towels per pack | many paper towels per pack | -number of paper towels per pack | comparative
    show three bottles of soft drink | =
    make monkey stand on top of a bucket | =
    The door in the bedroom leads to the outside with blue sky. | =
    shows two people and has a more colorful background | =
    are red instead of blue and the photo has people sitting | =
    is shot from the same angle and has a bus in the background | =
    has a clock in the background | =
    are seen from behind and there is a beach in the background | =
    are eating and the photo shows fewer people | =
    Darken the image | =
    raise the contrast of the photo | =
    Lighten this whole picture | =
    Make this whole image brighter | =
    change the background color | =
    Remove the wires to the right of the Christmas Tree | =
    blue truck is present on the road | =
    there are two people instead of three | =
    the people are not there anymore | =
    the people walking are no longer there | =
    there are now four people standing near the left of the image | =
    the number of people has changed from two to three | =
    the person standing by the farthest building is gone | =
    then many cars are going along the road | =
    a cute and small dog | =
    dining table | =
    brick wall | =
    A boat floating on blue water . | =
    Two girls clasp hands and pose for a picture . | =
    Three children are playing on a swing in the garden . | =
    A medium brown dog is jumping over a short brick wall surrounding some dirt . | =
"""

from rankclip.instructions.grammar import PLAIN, Instruction, parse, prompts

__all__ = ["PLAIN", "Instruction", "parse", "prompts"]
