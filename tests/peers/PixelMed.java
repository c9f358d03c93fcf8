import com.pixelmed.validate.DicomSRValidator;

/** Runs PixelMed's SR validator, whose own command takes one file, on many: its rules take longest to load. */
class PixelMed {
    public static void main(String[] paths) throws Exception {
        var validator = new DicomSRValidator();
        for (String path : paths) {
            System.out.println("File: " + path);
            try {
                System.out.println(validator.validate(path));
            } catch (Exception failure) {
                System.out.println("Error: cannot be validated: " + failure);
            }
        }
    }
}
